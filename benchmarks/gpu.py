"""Measure on one GPU what the project promises, in under eight minutes: a table and a JSON file.

python benchmarks/gpu.py                        # benchmarks/gpu.json
python benchmarks/gpu.py --device cpu --smoke   # runs all of it on a CPU, for crashes only
"""

import argparse
import copy
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from bench import machine, say, table
from harness import Row, alternate
from student_step import AUTOCAST, Case, rows_of, steps, training_step
from torch import nn

from cpsd.files import write_json
from cpsd.models.folding import folded
from cpsd.models.trunk import share_trunk
from cpsd.training.compiling import compiled
from cpsd.training.members import scaled_pixels

OUT = Path(__file__).parent / "gpu.json"
STAGES = 3
"""Stages of ResNet-50 that teachers share, of five as timm counts them."""


def student_steps(case: Case, rounds: int) -> Iterator[Row]:
    """Yield the student's step in plain ones, in each arithmetic."""
    for precision in ("32", "bf16-mixed"):
        mixed = replace(case, precision=precision)
        with steps(mixed) as arms:
            yield from rows_of(mixed, alternate(arms, rounds))


def compiled_steps(case: Case, rounds: int) -> Iterator[Row]:
    """Yield what compiling brings a plain step."""
    everything = tuple(range(case.num_labels))
    plain, quick = case.network(), case.network()
    arms = {
        "plain": training_step(case, {everything: plain}, None),
        "compiled": training_step(case, {everything: quick}, None),
    }
    begun = time.monotonic()
    with compiled([quick]):
        arms["compiled"]()
        compiling = time.monotonic() - begun
        seconds = alternate(arms, rounds)
    what = f"({case.backbone}, {case.precision})"
    yield Row(f"step / compiled step {what}", seconds["plain"] / seconds["compiled"], "x")
    yield Row(f"compiling {what}", compiling, "s")


def graph_of_inference(case: Case, rounds: int) -> Iterator[Row]:
    """Yield what a CUDA graph brings teachers that only answer, where launches take longest."""
    network, images = case.network().eval(), scaled_pixels(case.data().images[:1])
    if case.device.type != "cuda":
        return
    with torch.inference_mode():
        for _ in range(3):
            network(images)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            network(images)
    seconds = alternate(
        {
            "calls": finished(case, lambda: inferred([network], images, case)),
            "graph": finished(case, graph.replay),
        },
        rounds,
    )
    value = seconds["calls"] / seconds["graph"]
    yield Row("one picture, calls / CUDA graph", value, "x")


def soft_labels(case: Case, rounds: int) -> Iterator[Row]:
    """Yield pictures a second of ten teachers, in each arithmetic, folded or not."""
    ensembles = [ensemble.eval() for ensemble in case.ensembles().values()]
    images = scaled_pixels(case.data().images)
    quick = [copy.deepcopy(ensemble) for ensemble in ensembles]
    with folded(quick[0], from_picture=1) as first, folded(quick[1], from_picture=1) as second:
        arms = {}
        for precision in ("32", "bf16-mixed"):
            mixed = replace(case, precision=precision)
            for name, networks in (("plain", ensembles), ("folded", [first, second])):
                arms[f"{name}, {precision}"] = finished(case, inference(networks, images, mixed))
        seconds = alternate(arms, rounds)
    for name, took in seconds.items():
        yield Row(f"soft labels of ten teachers, {name}", case.batch / took, "pictures/s")


def teachers(case: Case, rounds: int) -> Iterator[Row]:
    """Yield what five teachers take together, on their own, and on a shared trunk."""
    parts = [tuple(range(i, case.num_labels, case.parts)) for i in range(case.parts)]
    networks = {part: case.network(len(part)) for part in parts}
    singles = [training_step(case, {part: network}, None) for part, network in networks.items()]
    sharing = {part: copy.deepcopy(network) for part, network in networks.items()}
    first = next(iter(sharing.values()))
    for network in sharing.values():
        for key in ("normalization", "backbone"):
            getattr(network, key).load_state_dict(getattr(first, key).state_dict())
    share_trunk(list(sharing.values()), 1 if case.backbone != "resnet50" else STAGES)

    def one_by_one() -> None:
        for step in singles:
            step()

    seconds = alternate(
        {
            "together": training_step(case, networks, None),
            "one by one": one_by_one,
            "shared": training_step(case, sharing, None),
        },
        rounds,
    )
    for name in ("together", "shared"):
        value = seconds[name] / seconds["one by one"]
        yield Row(f"computing of {case.parts} teachers, {name} / one by one", value, "x")


def input_path(case: Case, rounds: int) -> Iterator[Row]:
    """Yield how fast pictures come to the device as bytes and become what networks take."""
    images = case.data().images.cpu()
    if case.device.type == "cuda":
        images = images.pin_memory()

    def bytes_first() -> object:
        return scaled_pixels(images.to(case.device, non_blocking=True))

    def floats_first() -> object:
        return scaled_pixels(images).to(case.device, non_blocking=True)

    arms = {"bytes": finished(case, bytes_first), "floats": finished(case, floats_first)}
    seconds = alternate(arms, rounds)
    yield Row("pictures to the device as bytes", case.batch / seconds["bytes"], "pictures/s")
    value = seconds["floats"] / seconds["bytes"]
    yield Row("pictures to the device, as float32 / as bytes", value, "x")


def prediction(case: Case, rounds: int) -> Iterator[Row]:
    """Yield what folding brings prediction."""
    eager, quick = case.network().eval(), case.network().eval()
    images = scaled_pixels(case.data().images)
    with folded(quick, from_picture=1) as predictor:
        arms = {
            "eager": finished(case, inference([eager], images, case)),
            "folded": finished(case, inference([predictor], images, case)),
        }
        seconds = alternate(arms, rounds)
    yield Row("prediction, eager / folded", seconds["eager"] / seconds["folded"], "x")


def inference(
    networks: Sequence[nn.Module], images: torch.Tensor, case: Case
) -> Callable[[], None]:
    """Return what puts ``images`` through networks."""
    return lambda: inferred(networks, images, case)


def inferred(networks: Sequence[nn.Module], images: torch.Tensor, case: Case) -> None:
    """Put ``images`` through networks in the arithmetic of the case."""
    dtype = AUTOCAST.get(case.precision)
    mixed = torch.autocast(case.device.type, dtype=dtype, enabled=dtype is not None)
    with torch.inference_mode(), mixed:
        for network in networks:
            network(images)


def finished(case: Case, work: Callable[[], object]) -> Callable[[], None]:
    """Return ``work`` that returns when the device has done it."""

    def call() -> None:
        work()
        if case.device.type == "cuda":
            torch.cuda.synchronize()

    return call


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--smoke", action="store_true", help="tiny sizes; for crashes only")
    parser.add_argument("--out", type=Path, default=OUT, help="the JSON file")
    asked = parser.parse_args(arguments)
    if asked.device == "cuda" and not torch.cuda.is_available():
        say("There is no GPU that torch sees; --device cpu --smoke runs without one.", sys.stderr)
        return 2
    device = torch.device(asked.device)
    case = (
        Case("test_byobnet", 32, 2, num_labels=6, parts=2, device=device)
        if asked.smoke
        else Case("resnet50", 224, 64, device=device)
    )
    rounds = 1 if asked.smoke else 11
    topics = [student_steps, soft_labels, teachers, input_path, prediction, graph_of_inference]
    if not asked.smoke:  # a compiler is not part of what a CPU has to have
        topics.append(compiled_steps)
    rows: list[Row] = []
    for topic in topics:
        say(f"{topic.__name__} ...", sys.stderr)
        rows += topic(case, rounds)
    lines = [{**asdict(row), "met": row.met} for row in rows]
    for line in table({"gpu": {"rows": lines}}):
        say(line)
    write_json(asked.out, {"format_version": 1, "machine": machine(), "rows": lines})
    return 0


if __name__ == "__main__":
    sys.exit(main())
