"""Performing stages as tasks of a Ray cluster, each as soon as what it needs is there."""

from collections import Counter
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cpsd.addresses import address_of
from cpsd.cluster.board import Board, Taken
from cpsd.cluster.connection import Cluster
from cpsd.cluster.demands import Demands, Gang
from cpsd.cluster.piece import Piece, Refusal
from cpsd.cluster.piece_copies import Collection, Made
from cpsd.cluster.worker import perform
from cpsd.errors import CpsdError, RunError
from cpsd.execution import RunWork
from cpsd.report.piece_table import PieceTable
from cpsd.stage import Stage, StageState

MAX_RETRIES = 3
"""How often Ray gives a piece to another worker when a worker or its machine was lost."""
SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_TO_STOP = 10.0
"""For a piece that is told to stop, before its process is killed."""


class RayExecutor:
    """Performs stages as tasks.

    Workers read and write the run directory, which all machines share. Of a run at an address they
    fetch what they need and send what they make (``piece_copies``), and this process, which has its
    copy, takes it from there, puts results in place and sends them as any command does.

    Ray gives a piece whose worker is lost to another, which goes on from the last checkpoint. A
    piece that fails for a reason that the user can mend is not tried again.

    Args:
        cluster: that this process is connected to.
        demands: what pieces need.
        split_seed: that the records' splits were drawn with.
        looked_at: file that remembers which pictures are bad.
        home: folder of the run, or of the comparison.
        table: where the pieces' progress is shown.
    """

    def __init__(
        self,
        cluster: Cluster,
        demands: Demands,
        *,
        split_seed: int,
        looked_at: Path,
        home: Path,
        table: PieceTable,
    ) -> None:
        self._ray: Any = cluster.ray
        self._demands = demands
        self._split_seed = split_seed
        self._looked_at = looked_at.resolve()
        self._home = home.resolve()
        address = address_of(self._home)
        self._collection = None if address is None else Collection(address, self._home)
        self._table = table
        self._runs: list[_Run] = []
        self._flying: dict[Any, tuple[_Run, Stage, str | None]] = {}
        self._places: dict[Any, Any] = {}
        self._task = self._ray.remote(perform)

    works_ahead = True

    def __enter__(self) -> Self:
        here = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            self._ray.get_runtime_context().get_node_id(), soft=True
        )
        actor = self._ray.remote(Board).options(
            num_cpus=0, max_restarts=-1, scheduling_strategy=here
        )
        self._board = actor.remote()
        self._table.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop what is not done: nothing goes on when the command is over."""
        self._table.__exit__(kind, error, trace)
        self._stop()
        self._ray.kill(self._board)

    def begin(self, work: RunWork) -> None:
        """Start what can start; ``finish`` waits for the rest.

        Raises:
            RunError: settings of finished or begun stages have changed, and ``redo`` is not set.
        """
        work.prepare()
        self._runs.append(_Run(work))
        self._start()

    def finish(self, work: RunWork) -> bool:
        """Return when all wanted stages are done; whether any was not done before.

        Raises:
            RunError: as ``begin``, or a worker was lost again and again.
            UserError: what a stage raises.
        """
        (run,) = (run for run in self._runs if run.work is work)
        while run.left:
            assert self._flying, "what is left waits for something that is performed"
            landed, _ = self._ray.wait([*self._flying], timeout=SECONDS_BETWEEN_LOOKS)
            self._look()
            for task in landed:
                self._end(task)
            if landed:
                self._start()
        return run.anew

    def _start(self) -> None:
        """Start every stage whose needs are done, and end those that are done already."""
        started = True
        while started:
            started = False
            for run in self._runs:
                for stage in run.ready():
                    started |= self._begin_stage(run, stage)

    def _begin_stage(self, run: "_Run", stage: Stage) -> bool:
        """Begin a stage, unless an earlier run is about to make the same; return whether."""
        directory = run.work.directory
        state = directory.state(stage)
        run.anew |= state is not StageState.DONE
        if state is StageState.NEW:
            others = [other for other in self._runs if other is not run]
            if run.work.taken(stage, [other.work.directory for other in others]):
                state = StageState.DONE
            elif any(other.will_make(stage) for other in others[: self._runs.index(run)]):
                return False
        if not run.work.title:  # of several at once, the table says what they do
            run.work.announce(stage, state)
        run.begun.add(stage.name)
        if state is StageState.DONE:
            run.end(stage)
            return True
        pieces = directory.pieces(stage)  # which begins it here, where its result comes to
        if self._demands.gang(stage) is not None:  # trained by all of its devices, one by one
            pieces = {}
        run.pieces_left[stage.name] = len(pieces)
        for part in pieces:
            self._submit(run, stage, part)
        if not pieces:
            self._submit(run, stage, None)
        return True

    def _submit(self, run: "_Run", stage: Stage, part: str | None) -> None:
        title = run.title(stage, part)
        demand = self._demands.of(stage)
        if self._collection is not None:  # what is done and begun is sent, and then looked for
            run.tell()
        piece = Piece(
            title=title,
            home=None if self._collection is None else self._collection.address,
            run=self._place(run.work.directory.path),
            stage=stage.name,
            part=part,
            fingerprint=stage.fingerprint,
            config=run.work.config,
            split_seed=self._split_seed,
            looked_at=self._place(self._looked_at),
            folder=str(Path.cwd()),
            threads=self._demands.threads,
            picture_memory=self._demands.picture_memory,
            gang=self._demands.gang(stage),
        )
        place = None if piece.gang is None else self._place_for(piece.gang)
        task = self._task.options(
            name=title,
            num_cpus=demand.cpus,
            num_gpus=demand.gpus,
            memory=demand.memory,
            max_retries=MAX_RETRIES,
            retry_exceptions=False,
            scheduling_strategy=place,
        ).remote(piece, self._board)
        self._flying[task] = (run, stage, part)
        if place is not None:
            self._places[task] = place.placement_group
        self._table.begin(title)

    def _place_for(self, gang: Gang) -> Any:  # noqa: ANN401 - Ray has no types
        """Return where the leader of a gang goes: room for all of it, as soon as there is some."""
        util = self._ray.util
        together = "STRICT_SPREAD" if gang.num_nodes > 1 else "STRICT_PACK"
        group = util.placement_group(gang.bundles(), strategy=together)
        return util.scheduling_strategies.PlacementGroupSchedulingStrategy(group, 0)

    def _leave(self, task: Any) -> None:  # noqa: ANN401 - Ray's references have no type
        """Give back what was kept for a gang."""
        group = self._places.pop(task, None)
        if group is not None:
            self._ray.util.remove_placement_group(group)

    def _place(self, path: Path) -> str:
        """Return what a worker is told of a place: a path, or its name at the address."""
        path = path.resolve()
        return str(path if self._collection is None else path.relative_to(self._home).as_posix())

    def _end(self, task: Any) -> None:  # noqa: ANN401 - Ray's references have no type
        """Take note of a piece that is over."""
        run, stage, part = self._flying.pop(task)
        self._leave(task)
        title = run.title(stage, part)
        try:
            result: Made | Refusal | None = self._ray.get(task)
        except self._ray.exceptions.RayTaskError:
            raise
        except self._ray.exceptions.RayError as error:
            reason = str(error).strip().split("\n")[0]
            lost = (
                f"Ray has ended on this machine while '{title}' was under way"
                if isinstance(error, self._ray.exceptions.LocalRayletDiedError)
                else f"The worker of '{title}' was lost {MAX_RETRIES + 1} times"
            )
            raise RunError(
                f"{lost} ({reason}). What is done is kept; start the same command again when the "
                "machines are well."
            ) from error
        self._table.end(title)
        if isinstance(result, Refusal):
            raise result.error()
        if isinstance(result, Made):
            self._take_result(run, stage, part, result)
        if part is None:
            run.end(stage)
            return
        run.pieces_left[stage.name] -= 1
        if run.pieces_left[stage.name] == 0:  # what is left is to put them together
            self._submit(run, stage, None)

    def _take_result(self, run: "_Run", stage: Stage, part: str | None, made: Made) -> None:
        """Have here what a piece has made, and put in place what is a whole result."""
        assert self._collection is not None
        if not self._collection.take(made):
            raise RunError(
                f"What '{run.title(stage, part)}' has made is not whole at "
                f"{self._collection.address}. Start the same command again."
            )
        self._collection.end(made.worker)
        if part is None:
            run.work.directory.perform(stage)  # its work is done

    def _look(self) -> None:
        """Show what workers have put up, and take what they have so far."""
        # The board comes again after its machine was lost; what it knew is not worth an error.
        with suppress(self._ray.exceptions.RayError):
            taken: Taken = self._ray.get(self._board.take.remote(), timeout=5)
            for title, standing in taken.standings.items():
                self._table.show(title, standing.done, standing.total, standing.text)
            for title, sentence in taken.said:
                self._table.say(title, sentence)
            flying = {run.title(stage, part) for run, stage, part in self._flying.values()}
            for title in flying & taken.made.keys():
                assert self._collection is not None
                self._collection.take(taken.made[title])

    def _stop(self) -> None:
        """Interrupt all pieces, and kill the workers of those that go on."""
        tasks = [*self._flying]
        with suppress(self._ray.exceptions.RayError):
            for task in tasks:
                self._ray.cancel(task)
            _, going_on = self._ray.wait(tasks, num_returns=len(tasks), timeout=SECONDS_TO_STOP)
            for task in going_on:
                self._ray.cancel(task, force=True)
            for task in tasks:
                self._leave(task)
        if tasks:
            with suppress(CpsdError):  # why it ends is what is to be said
                self._look()
        if self._collection is not None:
            self._collection.close()
        self._flying.clear()


class _Run:
    """A run that is performed: which of its stages are begun, and which are done.

    Args:
        work: what is to be done.
    """

    def __init__(self, work: RunWork) -> None:
        self.work = work
        self.anew = False
        self.begun: set[str] = set()
        self.left = {stage.name: stage for stage in work.wanted}
        self.pieces_left: Counter[str] = Counter()
        self._followers: dict[str, int] = {}
        for stage in reversed(work.wanted):
            after = [one.name for one in work.wanted if stage.name in one.needs]
            self._followers[stage.name] = max((1 + self._followers[n] for n in after), default=0)

    def ready(self) -> list[Stage]:
        """Return the stages that are not begun and whose needs are done, the urgent ones first.

        Urgent is what the longest chain of others waits for: teachers before the baseline. So what
        computes for long waits for a light stage (a partition) with a longer chain behind it.
        """
        light = [self._followers[s.name] for s in self.left.values() if not s.computes]
        ready = [
            stage
            for stage in self.left.values()
            if stage.name not in self.begun
            and not any(need in self.left for need in stage.needs)
            and not (stage.computes and self._followers[stage.name] < max(light, default=0))
        ]
        return sorted(ready, key=lambda stage: -self._followers[stage.name])

    def will_make(self, stage: Stage) -> bool:
        """Return whether the result of ``stage`` will be there."""
        own = self.left.get(stage.name)
        return own is not None and own.fingerprint == stage.fingerprint

    def end(self, stage: Stage) -> None:
        """Take note that a stage is done."""
        del self.left[stage.name]
        self.tell()

    def tell(self) -> None:
        """Write down how far the run is; at an address, what it says is there then."""
        self.work.directory.write_manifest(self.work.facts, self.work.stages)

    def title(self, stage: Stage, part: str | None) -> str:
        """Return how a piece is called."""
        name = stage.name if part is None else f"{stage.name}/{part}"
        return f"{self.work.title}: {name}" if self.work.title else name
