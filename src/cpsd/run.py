"""The run directory: what a run leaves behind, and which stages of it are done.

    RUN/
      config.yaml                       the resolved configuration
      manifest.json                     versions, seeds, data, hardware, and what each stage cost
      labels.json  label_graph.npz  splits.csv
      partitions/co-occurrence.json  partitions/dis-occurrence.json
      baseline/  teachers/<strategy>/<part>/  student/   model.safetensors, model.json, metrics.csv
      teachers_start/                   the baseline that teachers are made of, where they are
      soft_labels/                      manifest.json and a file for each chunk of pictures
      predictions/<predictor>/<split>.parquet            of the validation and the test splits
      evaluation/<test split>.json      scores of all predictors
      .stages/<stage>.json              the completion mark of each stage, with its fingerprint
      .partial/<stage>/                 what a stage has so far, last.ckpt to resume included

A stage works in its partial folder; its outputs are moved to their places when it is through, and
its completion mark is written last. So what stands at its place is whole.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from cpsd.attempts import attempt, attempt_at_piece, with_pieces
from cpsd.cost import Cost, accounts, most
from cpsd.errors import RunError
from cpsd.files import (
    link,
    plain_file_errors,
    refusal,
    remove_temporaries,
    write_hashed_json,
    write_json,
    write_text,
)
from cpsd.stage import MARKS, PARTIAL, Pieces, Stage, StageState
from cpsd.stage_files import cost_in, read_mark, read_object, write_mark

FINISHED = "finished.json"
"""In an unfinished stage: what it cost, once its work is done."""
_RANK = ".rank-"
"""Between a stage's name and the number of the process whose copy of its folder that is."""
WORTH_KEEPING = (".ckpt", ".npy", ".safetensors")
"""Suffixes of files in an unfinished stage that took time to make."""


class RunDirectory:
    """The folder of one run.

    Args:
        path: the folder; made when it is not there.

    Raises:
        RunError: ``path`` is a file, a folder that cannot be read, or a folder with files in it
            that no run has written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with _readable(path):
            is_file = path.exists() and not path.is_dir()
            is_of_others = path.is_dir() and any(path.iterdir()) and not (path / MARKS).is_dir()
        if is_file:
            raise RunError(f"{path} is a file; name a folder for the run with --out.")
        if is_of_others:
            raise RunError(
                f"{path} holds files that no run has written; name another folder with --out."
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run directory for this process; the lock ends with the process, however it ends.

        What killed processes have left of files that they were writing, and of folders of stages
        that are through, is removed.

        Raises:
            RunError: another process holds it, or it cannot be written to.
        """
        try:
            (self.path / MARKS).mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / MARKS / "lock", blocking=False)
            lock.acquire()
        except Timeout as error:
            raise RunError(
                f"{self.path} is in use by another process; wait for it or choose another --out."
            ) from error
        except OSError as error:
            reason = refusal(error) or f"{error.strerror}."
            raise RunError(f"Cannot write {self.path}: {reason}") from error
        try:
            remove_temporaries(self.path)
            self._remove_worked_in()
            yield
            remove_temporaries(self.path)  # of others that have worked for this process
        finally:
            lock.release()

    def state(self, stage: Stage) -> StageState:
        """Return where ``stage`` stands; a result that somebody has removed is to do again.

        Raises:
            RunError: a file of the run cannot be read, or its completion mark is damaged.
        """
        with _readable(self.path):
            mark = read_mark(self.path / stage.mark, stage.name)
            if mark is not None:
                if mark["fingerprint"] != stage.fingerprint:
                    return StageState.CHANGED
                if all((self.path / output).exists() for output in stage.outputs):
                    return StageState.DONE
            folder = self.path / stage.begun
            begun = folder / "fingerprint"
            if not begun.exists() or self._is_emptied(stage):
                return StageState.NEW
            if begun.read_bytes() == stage.fingerprint.encode():
                return StageState.STARTED
            # A stage that failed before it kept anything, as with a setting that is mended now.
            kept = any(path.suffix in WORTH_KEEPING for path in folder.rglob("*"))
            return StageState.CHANGED if kept else StageState.NEW

    def perform(self, stage: Stage) -> Cost:
        """Do ``stage``, or go on with it, and put its outputs and its completion mark in place.

        Raises:
            RunError: the disk is full, the run directory cannot be written to, or a file that
                says how far the stage is, is damaged.
        """
        with plain_file_errors(self.path):
            return self._perform(stage)

    def pieces(self, stage: Stage) -> Pieces:
        """Begin ``stage`` and return the pieces of it that are not done; fewer than two are none.

        Raises:
            RunError: as ``perform``.
        """
        with plain_file_errors(self.path):
            folder = self._begun(stage)
            pieces = {} if (folder / FINISHED).exists() else stage.pieces(folder)
            return pieces if len(pieces) > 1 else {}

    def perform_piece(self, stage: Stage, name: str) -> None:
        """Do a piece of a stage that was begun, unless it is done.

        Raises:
            RunError: as ``perform``.
        """
        with plain_file_errors(self.path):
            folder = self.path / stage.begun
            piece = stage.pieces(folder).get(name)
            if piece is not None:
                with attempt_at_piece(folder, name):
                    piece()

    def work(self, stage: Stage) -> None:
        """Do the work of ``stage``, or go on with it; ``perform`` puts in place what it has made.

        Raises:
            RunError: as ``perform``.
        """
        with plain_file_errors(self.path):
            self._work(stage, self._begun(stage))

    def _begun(self, stage: Stage) -> Path:
        """Return the folder that ``stage`` works in; what is of other settings is removed."""
        folder = self.path / stage.begun
        state = self.state(stage)
        if state in (StageState.CHANGED, StageState.NEW) and folder.exists():
            _remove_at_once(folder)
        if state is StageState.CHANGED:
            (self.path / stage.mark).unlink(missing_ok=True)
        for left in folder.parent.glob(f"{folder.name}{_RANK}*"):  # by processes that were killed
            shutil.rmtree(left, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "fingerprint", stage.fingerprint)
        return folder

    def _perform(self, stage: Stage) -> Cost:
        folder = self._begun(stage)
        cost = self._work(stage, folder)
        (self.path / stage.mark).unlink(missing_ok=True)
        for output in stage.outputs:
            if (folder / output).exists():
                self._put_in_place(folder / output, self.path / output)
        self._drop_replaced(stage)
        write_mark(self.path / stage.mark, stage, cost)
        _remove_at_once(folder)
        return cost

    def copy_begun(self, stage: Stage, rank: int) -> Path:
        """Return a folder of the process ``rank`` with what ``stage`` has so far.

        That process works there beside the one that performs the stage, and removes it.
        """
        begun = self.path / stage.begun
        copy = begun.with_name(f"{begun.name}{_RANK}{rank}")
        shutil.rmtree(copy, ignore_errors=True)
        link(begun, copy)
        return copy

    def take(self, stage: Stage, source: "RunDirectory") -> bool:
        """Take the result of ``stage`` from another run that has it; return whether it was there.

        The same fingerprint stands for the same result. Files are linked where the file system can
        do that, so that they take no room twice.

        Raises:
            RunError: as ``perform``.
        """
        with plain_file_errors(self.path):
            if source.state(stage) is not StageState.DONE:
                return False
            folder = self.path / stage.begun
            if folder.exists():
                _remove_at_once(folder)
            for output in stage.outputs:
                link(source.path / output, folder / output)
            for output in stage.outputs:
                self._put_in_place(folder / output, self.path / output)
            self._drop_replaced(stage)
            mark = read_object(source.path / stage.mark, stage.name)
            write_hashed_json(self.path / stage.mark, mark)
            _remove_at_once(folder)
            return True

    def cost(self, stage: Stage) -> Cost:
        """Return what ``stage`` has cost.

        Raises:
            RunError: it is not done.
        """
        mark = read_mark(self.path / stage.mark, stage.name)
        if mark is None:
            raise RunError(f"The stage '{stage.name}' of {self.path} is not done yet.")
        return Cost.from_json(mark["cost"])

    def write_manifest(self, facts: dict[str, Any], stages: Sequence[Stage]) -> None:
        """Write ``manifest.json``: ``facts`` about the run, and the marks of the stages done.

        Each mark says its cost in plain trainings too, and ``method`` that of the whole method.
        """
        marks = {stage.name: read_mark(self.path / stage.mark, stage.name) for stage in stages}
        done = {name: mark for name, mark in marks.items() if mark is not None}
        costs = {name: Cost.from_json(mark["cost"]) for name, mark in done.items()}
        needs = {stage.name: list(stage.needs) for stage in stages}
        account = accounts(costs, needs)
        told = {
            name: {**mark, "needs": needs[name], **account["stages"][name]}
            for name, mark in done.items()
        }
        content = {**facts, "stages": told, "method": account["method"]}
        write_json(self.path / "manifest.json", content)

    def _work(self, stage: Stage, folder: Path) -> Cost:
        """Do the work of ``stage``, unless only its outputs are not in place yet."""
        finished = folder / FINISHED
        if finished.exists():
            return cost_in(read_object(finished, stage.name), finished, stage.name)
        with attempt(folder) as attempts:
            cost = stage.work(folder)
        attempts = with_pieces(attempts, folder)
        cost = replace(
            cost,
            seconds=max(cost.seconds, attempts.seconds),
            peak_memory=most(cost.peak_memory, attempts.peak_memory),
            peak_gpu_memory=most(cost.peak_gpu_memory, attempts.peak_gpu_memory),
        )
        write_hashed_json(finished, cost.to_json())
        return cost

    def _remove_worked_in(self) -> None:
        """Remove the folders of stages that are through: a kill came before these were removed."""
        with _readable(self.path):
            for folder in sorted((self.path / PARTIAL).glob("*")):
                if self._is_through(folder, folder.name.partition(_RANK)[0]):
                    shutil.rmtree(folder, ignore_errors=True)  # it does no harm there

    def _is_through(self, folder: Path, stage: str) -> bool:
        """Return whether the stage that worked in ``folder`` has a whole mark and all in place."""
        begun = folder / "fingerprint"
        try:
            told = read_mark(self.path / MARKS / f"{stage}.json", stage)
        except RunError:  # told where the stage is looked at
            return False
        if told is None or str(told.get("stage")).replace("/", ".") != stage:
            return False
        if begun.exists() and begun.read_bytes() != told["fingerprint"].encode():
            return False
        outputs = told.get("outputs")
        return isinstance(outputs, list) and all((self.path / str(o)).exists() for o in outputs)

    def _drop_replaced(self, stage: Stage) -> None:
        for name in stage.replaces:
            (self.path / name).unlink(missing_ok=True)

    def _is_emptied(self, stage: Stage) -> bool:
        """Return whether only the end of the work is there, of a result that has been removed.

        So it is where a kill came between a stage's completion mark and the end of its folder, and
        somebody has removed what was in place since then: because it was damaged, for one.
        """
        folder = self.path / stage.begun
        return (folder / FINISHED).exists() and not all(
            (folder / output).exists() or (self.path / output).exists() for output in stage.outputs
        )

    def _put_in_place(self, source: Path, destination: Path) -> None:
        destination.parent.mkdir(parents=True, exist_ok=True)
        if destination.is_dir():
            # A folder cannot be replaced in one step; the old one goes now that the new is whole.
            shutil.rmtree(destination)
        source.replace(destination)


def _remove_at_once(folder: Path) -> None:
    """Remove what a stage worked in; nothing goes on from it, however much a kill leaves of it."""
    (folder / "fingerprint").unlink(missing_ok=True)
    shutil.rmtree(folder)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Say in a sentence what in the run directory ``path`` cannot be read."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"Cannot read {error.filename or path}: {error.strerror}. Mend this, or choose another "
            "folder for the run with --out."
        ) from error
