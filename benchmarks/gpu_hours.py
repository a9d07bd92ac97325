"""Print what each recipe costs in GPU hours, from counted floating-point operations.

    python benchmarks/gpu_hours.py            # a Markdown table, a row a recipe
    python benchmarks/gpu_hours.py --write    # put the hours into the recipes and the README
    python benchmarks/gpu_hours.py --check    # exit code 1 where these say something else

Counted are one forward and one backward pass of the real networks (on torch's meta device: nothing
is computed), as a run counts its own, times how often a run makes them. Not counted: loading
pictures, which takes as many cores as it takes, and what a network that does not keep the GPU busy
wastes.
"""

import argparse
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch

from cpsd.arguments import parse, recipe_names, run_config
from cpsd.config import RunConfig
from cpsd.flops import Flops, step_flops
from cpsd.labels import LabelSpace
from cpsd.method import student_config, teacher_config
from cpsd.model_config import ModelConfig
from cpsd.models.classifier import build_classifier
from cpsd.models.stage_shares import NUM_LABELS, stage_shares
from cpsd.models.trunk import Trunk

ROOT = Path(__file__).resolve().parents[1]
RECIPES = ROOT / "recipes"
README = ROOT / "README.md"

FLOPS_A_SECOND = {"16-mixed": 60e12, "bf16-mixed": 60e12, "32": 23e12}
"""What one A100 reaches in training, by precision; its data sheet promises five to seven times that
(312e12, and 156e12 in TF32). NVIDIA's own tuned training of ResNet-50 on it (DeepLearningExamples,
ResNet50 v1.5 for PyTorch) makes 2,470 pictures a second in mixed precision and 938 in TF32, each
of 3 x 8.2e9 operations. Large matrix products, as heads with tokens make, reach more of the
promise, depthwise convolutions less."""

SENTENCE = re.compile(r"^# Estimate: .*$", re.MULTILINE)
TABLE = re.compile(r"(?<=<!-- recipes -->\n).*?(?=<!-- /recipes -->)", re.DOTALL)


class Size(NamedTuple):
    """A data set: pictures named for each use, and labels."""

    train: int
    validation: int
    """0 where it is drawn from train."""
    test: int
    """0 where it is drawn from train."""
    labels: int


SIZES = {
    "coco": Size(train=82_081, validation=0, test=40_137, labels=80),
    "nus-wide": Size(train=125_449, validation=0, test=83_898, labels=81),
    "voc": Size(train=2_501, validation=2_510, test=4_952, labels=20),
    "table": Size(train=10_000, validation=0, test=0, labels=20),
}
"""COCO 2014 and NUS-WIDE without pictures that have no label, VOC 2007, and 10,000 photographs with
20 labels as an example."""


def recipes() -> list[str]:
    """Return the recipes with an estimate: all but the demo, which is for a CPU."""
    return [name for name in recipe_names() if SENTENCE.search(_path(name).read_text("utf-8"))]


def estimate(name: str) -> dict[str, float]:
    """Return the GPU hours of each stage of a recipe."""
    _, arguments = parse(["run", "--config", name])
    config = run_config(arguments)
    seconds = FLOPS_A_SECOND[config.training.precision]
    flops = stage_flops(config, SIZES[config.data.format])
    return {stage: count / seconds / 3600 for stage, count in flops.items()}


def stage_flops(config: RunConfig, size: Size) -> dict[str, float]:
    """Return the floating-point operations of each stage."""
    validation = size.validation or size.train * config.data.validation_fraction
    test = size.test or size.train * config.data.test_fraction
    drawn = (0 if size.validation else validation) + (0 if size.test else test)
    train = size.train - drawn
    parts = config.partition.parts or 5
    num_teachers = parts * len(config.partition.strategies)
    num_strategies = len(config.partition.strategies)
    model, side = config.model, config.image.size
    whole = picture_flops(model, side, size.labels)
    shared = config.teachers.shared_stages
    trunk = trunk_flops(model, side, shared)
    # What each teacher has of its own; the trunk computes once for all that look at a picture.
    of_teacher = picture_flops(model, side, round(size.labels / parts), shared)
    teacher = of_teacher.forward - trunk
    # Validation asks the network as it is and its moving average.
    validated = validation * (2 if config.training.ema_decay > 0 else 1)
    student = student_config(config).training.epochs
    views = config.distillation.views or student
    an_epoch = (whole.forward + whole.backward) * train + whole.forward * validated
    on_trunks = num_strategies * (train + min(validated, validation)) * trunk
    own = (teacher + of_teacher.backward) * train + teacher * validated
    trained = num_teachers * own + on_trunks
    baseline = whole.forward - trunk if config.distillation.baseline else 0.0
    return {
        "baseline": config.training.epochs * an_epoch,
        "teachers": teacher_config(config).training.epochs * trained,
        "soft labels": views * train * (num_teachers * teacher + trunk + baseline),
        "student": student * an_epoch,
        "evaluation": test * (2 * whole.forward + num_teachers * teacher + num_strategies * trunk),
    }


@cache
def trunk_flops(model: ModelConfig, side: int, num_stages: int) -> float:
    """Return the operations of a picture's forward pass up to the end of a stage."""
    if num_stages == 0:
        return 0.0
    # A share of the network that the shares are counted on.
    share = stage_shares(model, side).stages[num_stages - 1]
    return share * picture_flops(model, side, NUM_LABELS).forward


@cache
def picture_flops(model: ModelConfig, side: int, num_labels: int, shared_stages: int = 0) -> Flops:
    """Return the operations of a picture, forward and backward; none backward in shared stages."""
    labels = LabelSpace(tuple(f"label {i}" for i in range(num_labels)))
    with torch.device("meta"):
        network = build_classifier(labels, replace(model, weights="none", label_embeddings=None))
        if shared_stages:
            Trunk(network, shared_stages)
        return step_flops(network.eval(), torch.empty(1, 3, side, side))


def sentence(name: str) -> str:
    """Return what a recipe says of its cost."""
    hours = estimate(name)
    return (
        f"# Estimate: {rounded(sum(hours.values()))} GPU hours on an A100, the baseline's "
        f"{rounded(hours['baseline'])} among them (benchmarks/gpu_hours.py)."
    )


def table() -> Iterator[str]:
    """Yield the README's table of recipes."""
    yield "| recipe | what | published mAP of baseline and CPSD | GPU hours |"
    yield "|---|---|---|--:|"
    for name in recipes():
        yield row(name)


def row(name: str) -> str:
    """Return a recipe's row of the README's table; but for the hours it says what the recipe says.

    Raises:
        ValueError: the recipe does not say what it is in the line after its command.
    """
    text = _path(name).read_text(encoding="utf-8")
    what = re.search(r"^#\n# (.*)\.$", text, re.MULTILINE)
    if what is None:
        raise ValueError(f"{name} does not say what it is.")
    published = re.search(
        r"^# Published mAP: baseline (\d+\.\d), CPSD (\d+\.\d)", text, re.MULTILINE
    )
    scores = " and ".join(published.groups()) if published else ""
    return f"| `{name}` | {what[1]} | {scores} | {rounded(sum(estimate(name).values()))} |"


def rounded(hours: float) -> str:
    """Return two digits that count.

    Example:
        >>> rounded(123.4), rounded(9.87), rounded(0.0512)
        ('120', '9.9', '0.051')
    """
    return f"{float(f'{hours:.2g}'):,.10g}"


def expected() -> Iterator[tuple[Path, str, str]]:
    """Yield each file that holds an estimate: its path, its text, and what it should be."""
    for name in recipes():
        text = _path(name).read_text(encoding="utf-8")
        yield _path(name), text, SENTENCE.sub(sentence(name), text)
    text = README.read_text(encoding="utf-8")
    lines = "".join(f"{line}\n" for line in ["", *table(), ""])
    yield README, text, TABLE.sub(lambda _: lines, text)


def stages_table() -> Iterator[str]:
    """Yield the lines of the table that is printed: hours of every stage."""
    yield "| recipe | baseline | teachers | soft labels | student | evaluation | together |"
    yield "|---|--:|--:|--:|--:|--:|--:|"
    for name in recipes():
        hours = [*estimate(name).values()]
        yield f"| {name} | {' | '.join(map(rounded, [*hours, sum(hours)]))} |"


def main() -> None:
    """Print the table, or hold the files to it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="put the hours into the files")
    parser.add_argument("--check", action="store_true", help="exit code 1 where they differ")
    arguments = parser.parse_args()
    if not arguments.write and not arguments.check:
        for line in stages_table():
            print(line, flush=True)  # noqa: T201 - the table is what the script is for
        return
    stale = [(path, text) for path, before, text in expected() if before != text]
    for path, text in stale:
        if arguments.write:
            path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROOT), flush=True)  # noqa: T201 - says what is stale
    sys.exit(1 if stale and arguments.check else 0)


def _path(name: str) -> Path:
    return RECIPES / f"{name}.yaml"


if __name__ == "__main__":
    main()
