"""Simulate how long a run takes on so many GPUs, with slow and lost machines.

    python benchmarks/scale.py                        # the COCO recipes on 1, 4, 10, 64 GPUs
    python benchmarks/scale.py --recipe coco-resnet101 --step-seconds 0.11
    python benchmarks/scale.py --check                # small real Ray runs beside it

Simulated is what ``cpsd.cluster`` does: pieces wait for what they need, start in the order of how
much waits for them, and one that loses its machine goes on from its last epoch on the next that is
free.

How long a piece takes is an assumption: its operations (``gpu_hours.py``) at a speed that one A100
is known to reach. ``--step-seconds`` puts a measured training step of plain training in its place,
and all pieces in proportion.
"""

import argparse
import heapq
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from gpu_hours import FLOPS_A_SECOND, SIZES, Size, stage_flops

from cpsd.arguments import parse, run_config
from cpsd.config import RunConfig
from cpsd.method import student_config, teacher_config
from cpsd.training.soft_label_writing import CHUNK_SIZE

ROOT = Path(__file__).resolve().parents[1]
RECIPES = ("coco-resnet101", "coco-resnet101-tf", "coco-q2l-resnet101", "coco-tresnet-l",
           "coco-resnet101-fast")  # fmt: skip
GPUS = (1, 4, 10, 64)
START = 60.0
"""Seconds until a piece on a new worker trains: torch, the table of pictures, the checkpoint."""
DRAWS = 20


@dataclass(frozen=True)
class Piece:
    """A piece of a run.

    Args:
        name: of it.
        seconds: on a machine as fast as it should be.
        needs: the pieces that are done before.
        parts: after each of which a lost machine costs nothing: epochs, for a training.
    """

    name: str
    seconds: float
    needs: tuple[str, ...] = ()
    parts: int = 1


@dataclass(frozen=True)
class Trouble:
    """What goes wrong.

    Args:
        slow_share: of the pieces that land on a slow machine.
        slowness: how many times as long these take.
        hours_to_loss: of a GPU, on average, until its machine is lost.
        hours_away: until it is back.
    """

    slow_share: float = 0.0
    slowness: float = 2.0
    hours_to_loss: float = float("inf")
    hours_away: float = 0.25


NONE = Trouble()


def pieces_of(config: RunConfig, size: Size, *, step_seconds: float | None = None) -> list[Piece]:
    """Return the pieces of a run that take a GPU, in the order in which they are begun."""
    flops = stage_flops(config, size)
    train = size.train if size.validation else size.train * (1 - config.data.validation_fraction)
    speed = FLOPS_A_SECOND[config.training.precision]
    if step_seconds is not None:
        steps = config.training.epochs * train / config.training.batch_size
        speed = flops["baseline"] / (steps * step_seconds)
    seconds = {stage: count / speed for stage, count in flops.items()}
    strategies, parts = config.partition.strategies, config.partition.parts or 5
    teachers = teacher_config(config)
    starts = ("baseline",) if config.teachers.need_baseline else ()
    baseline = Piece("baseline", seconds["baseline"], (), config.training.epochs)
    # Teachers on one trunk are one piece: apart, each would compute the trunk anew.
    groups = 1 if config.teachers.shared_stages else parts
    of_group = seconds["teachers"] / (groups * len(strategies))
    ensembles = [f"{strategy}/{group}" for strategy in strategies for group in range(groups)]
    pieces = [Piece(name, of_group, starts, teachers.training.epochs) for name in ensembles]
    pieces.append(baseline)
    chunks = -(-round(train) // CHUNK_SIZE)
    of_chunk = seconds["soft labels"] / chunks
    pieces += [Piece(f"soft labels {i}", of_chunk, tuple(ensembles)) for i in range(chunks)]
    pieces.append(
        Piece(
            "student",
            seconds["student"],
            tuple(f"soft labels {i}" for i in range(chunks)),
            student_config(config).training.epochs,
        )
    )
    pieces.append(Piece("predictions", seconds["evaluation"], ("baseline", "student")))
    return pieces


def makespan(
    pieces: Sequence[Piece],
    gpus: int,
    *,
    trouble: Trouble = NONE,
    start: float = START,
    seed: int = 0,
) -> float:
    """Return the seconds until all pieces are done."""
    random = np.random.default_rng(seed)
    slow = random.random(len(pieces)) < trouble.slow_share
    factors = np.where(slow, trouble.slowness, 1.0)
    left = {p.name: p.seconds * float(f) for p, f in zip(pieces, factors, strict=True)}
    step = {p.name: left[p.name] / p.parts for p in pieces}
    to_loss = trouble.hours_to_loss * 3600
    losses = [random.exponential(to_loss) if np.isfinite(to_loss) else np.inf for _ in range(gpus)]
    free, done, waiting = list(range(gpus)), set[str](), list(pieces)
    events: list[
        tuple[float, int, str]
    ] = []  # when, which GPU, the piece that ends; "" if it is back
    lost_at: dict[str, tuple[float, float]] = {}
    now = 0.0
    while len(done) < len(pieces):
        for piece in [p for p in waiting if done.issuperset(p.needs)]:
            if not free:
                break
            gpu = free.pop(0)
            waiting.remove(piece)
            ends = now + start + left[piece.name]
            if losses[gpu] < ends:
                lost_at[piece.name] = (now, max(losses[gpu], now))
                ends = lost_at[piece.name][1]
            heapq.heappush(events, (ends, gpu, piece.name))
        now, gpu, name = heapq.heappop(events)
        if not name:
            free.append(gpu)
        elif name in lost_at:
            began, _ = lost_at.pop(name)
            parts_done = max(0.0, now - began - start) // step[name]
            left[name] -= parts_done * step[name]
            waiting.insert(0, next(p for p in pieces if p.name == name))
            back = now + trouble.hours_away * 3600
            losses[gpu] = back + random.exponential(to_loss)
            heapq.heappush(events, (back, gpu, ""))
        else:
            done.add(name)
            free.append(gpu)
    return now


def critical_path(pieces: Sequence[Piece], start: float = START) -> float:
    """Return the seconds that no number of machines shortens."""
    ends: dict[str, float] = {}
    while len(ends) < len(pieces):
        for piece in pieces:
            if all(need in ends for need in piece.needs):
                begins = max((ends[need] for need in piece.needs), default=0.0)
                ends[piece.name] = begins + start + piece.seconds
    return max(ends.values())


def rows(recipe: str, trouble: Trouble, step_seconds: float | None) -> Iterator[str]:
    """Yield a recipe's rows of the table."""
    config = run_config(parse(["run", "--config", recipe])[1])
    pieces = pieces_of(config, SIZES[config.data.format], step_seconds=step_seconds)
    alone = makespan(pieces, 1)
    for gpus in GPUS:
        plain = makespan(pieces, gpus)
        slow = replace(trouble, hours_to_loss=float("inf"))
        lost = replace(trouble, slow_share=0.0)
        cells = [
            statistics.mean(makespan(pieces, gpus, trouble=t, seed=s) for s in range(DRAWS))
            for t in (slow, lost)
        ]
        hours = [f"{seconds / 3600:.1f}" for seconds in (plain, *cells, critical_path(pieces))]
        speedup = alone / plain
        yield f"| {recipe} | {gpus} | {' | '.join(hours)} | {speedup:.1f} | {speedup / gpus:.0%} |"


def check(folder: Path) -> Iterator[str]:
    """Yield small real runs on clusters of one and two nodes of a core, beside simulated ones."""
    from cpsd.cli import main as cpsd
    from cpsd.data.digits import write_digits

    sys.path.append(str(ROOT / "tests"))
    from ray_clusters import nodes

    table = write_digits(folder / "digits", seed=0)
    yield "| nodes of one core | measured, s | simulated, s |"
    yield "|--:|--:|--:|"
    for count in (1, 2):
        out = folder / f"on-{count}"
        with nodes(count) as cluster:
            command = [
                "distill", str(table), "--config", "demo", "--training.epochs", "6",
                "--machine.threads", "1", "--machine.workers", "0", "--machine.accelerator", "cpu",
                "--out", str(out), "--executor", "ray", "--ray-address", cluster.address,
            ]  # fmt: skip
            began = time.monotonic()
            if cpsd(command) != 0:
                raise RuntimeError("the run has failed")
            measured = time.monotonic() - began
        simulated = makespan(measured_pieces(out), count, start=0.0)
        yield f"| {count} | {measured:.0f} | {simulated:.0f} |"


def measured_pieces(run: Path) -> list[Piece]:
    """Return the pieces of a finished run with the seconds that they took; teachers evenly."""
    pieces: list[Piece] = []
    stages = json.loads((run / "manifest.json").read_text(encoding="utf-8"))["stages"]
    ends: dict[str, tuple[str, ...]] = {}
    for name, mark in stages.items():
        needs = tuple(end for need in mark["needs"] for end in ends.get(need, ()))
        folders = [*(run / name).glob("[0-9]*")] if name.startswith("teachers/") else []
        names = tuple(f"{name}/{part}" for part in range(len(folders))) or (name,)
        seconds = mark["cost"]["seconds"] / len(names)
        pieces += [Piece(one, seconds, needs) for one in names]
        ends[name] = names
    return pieces


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--recipe", action="append", help="recipes; by default those for COCO")
    parser.add_argument("--step-seconds", type=float, help="of plain training, as measured")
    parser.add_argument("--slow-share", type=float, default=0.05, help="pieces on slow machines")
    parser.add_argument("--slowness", type=float, default=2.0, help="times as long as they should")
    parser.add_argument("--hours-to-loss", type=float, default=50.0, help="of a GPU, on average")
    parser.add_argument("--hours-away", type=float, default=0.25, help="until it is back")
    parser.add_argument("--check", action="store_true", help="small real runs beside simulated")
    arguments = parser.parse_args()
    if arguments.check:
        with tempfile.TemporaryDirectory(prefix="cpsd-scale-") as folder:
            lines = list(check(Path(folder)))
    else:
        trouble = Trouble(
            arguments.slow_share, arguments.slowness, arguments.hours_to_loss, arguments.hours_away
        )
        lines = [
            "| recipe | GPUs | hours | with slow machines | with lost machines | at least | "
            "times as fast | of GPUs used |",
            "|---|--:|--:|--:|--:|--:|--:|--:|",
            *(
                row
                for recipe in arguments.recipe or RECIPES
                for row in rows(recipe, trouble, arguments.step_seconds)
            ),
        ]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
