"""Print how often 95 % intervals hold the truth, in simulations where it is known, as Markdown.

    python benchmarks/bootstrap_coverage.py --repetitions 2000 --with-scores 400

First table: a metric that is the sum of normal effects of teacher sets, seeds and images, so that
many settings can be tried. "plain" is the two-level bootstrap that draws S of S seeds, for
comparison. Widths are over those of an interval that knows all variances. Second table: real
average precision of made-up scores.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cpsd.evaluation.intervals import ArmScores, Interval, difference, interval
from cpsd.evaluation.metrics import average_precision, mean_average_precision
from cpsd.evaluation.resampling import draw_image_weights, resampled_metrics
from cpsd.labels import Targets

Floats = NDArray[np.float64]
NUM_RESAMPLES = 300
SPREADS = (
    (0, 0),
    (0, 0, 0),
    (0, 0, 1),
    (0, 1, 2),
    (0, 0, 1, 1),
    (0, 0, 0, 0, 0),
    (0, 0, 0, 1, 1),
    (0, 0, 1, 1, 2),
    (0, 1, 2, 3, 4),
)
"""Which teacher set each seed has."""


@dataclass(frozen=True)
class Effects:
    """Standard deviations of what the first table's values are summed from.

    Args:
        seeds: of a seed, in each arm.
        sets: of a teacher set, in the student's arm alone.
        images: of the test split, common to all.
        seeds_on_images: of the test split, each seed's own.
    """

    seeds: float
    sets: float
    images: float
    seeds_on_images: float


def made_up_arm(
    effects: Effects,
    sets: tuple[int, ...],
    common_R: Floats,
    *,
    student: bool,
    rng: np.random.Generator,
) -> ArmScores:
    """Return the values of an arm; the truth is 0.5. ``common_R`` ends with the split itself."""
    num_seeds = len(sets)
    chance_S1 = effects.seeds * rng.standard_normal((num_seeds, 1))
    if student:
        chance_S1 += effects.sets * rng.standard_normal(max(sets) + 1)[list(sets), None]
    own_SR = effects.seeds_on_images * rng.standard_normal((num_seeds, NUM_RESAMPLES + 1))
    images_SR = common_R + own_SR
    points_S1 = 0.5 + chance_S1 + images_SR[:, -1:]
    seeds = tuple(range(num_seeds))
    return ArmScores(
        points_S1[:, 0], points_S1 + images_SR[:, :-1], seeds, sets if student else None
    )


def plain_difference(
    arm: ArmScores, reference: ArmScores, rng: np.random.Generator
) -> tuple[float, float]:
    """Return the two-level bootstrap's percentiles without any correction."""
    gap_SR = arm.resampled - reference.resampled
    drawn_RS = rng.integers(0, len(gap_SR), (gap_SR.shape[1], len(gap_SR)))
    low, high = np.quantile(
        gap_SR[drawn_RS.T, np.arange(len(drawn_RS))].mean(axis=0), (0.025, 0.975)
    )
    return float(low), float(high)


def row_of_effects(effects: Effects, sets: tuple[int, ...], repetitions: int, *, seed: int) -> str:
    """Return the first table's row: coverage in percent and widths."""
    rng = np.random.default_rng(seed)
    held = np.zeros(3)
    widths = np.zeros((repetitions, 2))
    for k in range(repetitions):
        common_R = effects.images * rng.standard_normal(NUM_RESAMPLES + 1)
        student = made_up_arm(effects, sets, common_R, student=True, rng=rng)
        baseline = made_up_arm(effects, sets, common_R, student=False, rng=rng)
        own, gap = interval(student), difference(student, baseline)
        low, high = plain_difference(student, baseline, rng)
        held += (own.low <= 0.5 <= own.high, gap.low <= 0 <= gap.high, low <= 0 <= high)
        widths[k] = gap.high - gap.low, high - low
    sizes = np.bincount(sets)
    variance = 2 * (effects.seeds**2 + effects.seeds_on_images**2) / len(sets)
    # With one set the interval is for that set: its truth is that set's.
    variance += effects.sets**2 * (sizes**2).sum() / len(sets) ** 2
    known = 2 * 1.96 * np.sqrt(variance)
    own_held, gap_held, plain_held = 100 * held / repetitions
    relative = np.median(widths, axis=0) / known
    return (
        f"| {len(sets)} | {len(sizes)} | {effects.sets / effects.seeds:.1f} "
        f"| {effects.seeds_on_images / effects.seeds:.1f} | {own_held:.1f} | {gap_held:.1f} "
        f"| {plain_held:.1f} | {relative[0]:.1f} | {relative[1]:.1f} |"
    )


def table_of_effects(repetitions: int) -> Iterator[str]:
    """Yield the first table."""
    yield (
        "| seeds | teacher sets | sets / seeds | seeds on images / seeds | student % "
        "| difference % | plain % | width | plain width |"
    )
    yield f"|{'--:|' * 9}"
    settings = [
        (Effects(seeds=0.004, sets=0.004 * of_sets, images=0.01, seeds_on_images=0.002), sets)
        for sets in SPREADS
        for of_sets in ((0.0, 1.0, 2.0, 4.0) if len(set(sets)) > 1 else (0.0,))
    ]
    settings += [
        (Effects(seeds=0.004, sets=0.004, images=0.01, seeds_on_images=0.004 * on_images), sets)
        for on_images in (0.0, 2.0)
        for sets in ((0, 0, 1), (0, 1, 2))
    ]
    for k, (effects, sets) in enumerate(settings):
        yield row_of_effects(effects, sets, repetitions, seed=k)


@dataclass(frozen=True)
class Pictures:
    """What the second table's scores are made from: N images, C labels, how frequent they are."""

    num_images: int
    num_labels: int
    share: float

    def targets(self, rng: np.random.Generator) -> Targets:
        """Return targets ``(N, C)`` of a new test split."""
        shape = (self.num_images, self.num_labels)
        return (rng.random(shape) < self.share).astype(np.int8)

    def logits(
        self, targets_NC: Targets, sets: tuple[int, ...], rng: np.random.Generator
    ) -> list[tuple[Floats, Floats]]:
        """Return each seed's logits of student and baseline.

        Images are hard or easy for all; a seed and a teacher set change the skill on each label.
        """
        hardness_NC = rng.standard_normal(targets_NC.shape)
        of_sets_TC = 0.15 * rng.standard_normal((max(sets) + 1, self.num_labels))

        def one(skill_C: Floats) -> Floats:
            own_NC = 0.5 * rng.standard_normal(targets_NC.shape)
            skill_C = skill_C + 0.15 * rng.standard_normal(self.num_labels)
            return np.asarray(skill_C * targets_NC + hardness_NC + own_NC)

        skill_C = np.full(self.num_labels, 2.0)
        return [(one(skill_C + 0.1 + of_sets_TC[t]), one(skill_C)) for t in sets]


def true_values(pictures: Pictures, repetitions: int) -> tuple[float, float]:
    """Return what the student's mAP and its difference to the baseline are on average."""
    rng = np.random.default_rng(1)
    values = []
    for _ in range(repetitions):
        targets_NC = pictures.targets(rng)
        for pair in pictures.logits(targets_NC, (0, 1), rng):
            maps = [mean_average_precision(average_precision(z, targets_NC)) for z in pair]
            values.append((maps[0], maps[0] - maps[1]))
    student, gap = np.nanmean(values, axis=0)
    return float(student), float(gap)


def arms_of_scores(
    pictures: Pictures, sets: tuple[int, ...], rng: np.random.Generator
) -> list[ArmScores]:
    """Return student and baseline on one new test split."""
    targets_NC = pictures.targets(rng)
    weights_NR = draw_image_weights(
        pictures.num_images, NUM_RESAMPLES, seed=int(rng.integers(2**32))
    )
    arms = []
    for k, logits in enumerate(zip(*pictures.logits(targets_NC, sets, rng), strict=True)):
        points_S = np.array(
            [mean_average_precision(average_precision(z, targets_NC)) for z in logits]
        )
        resampled_SR = np.stack([resampled_metrics(z, targets_NC, weights_NR).mAP for z in logits])
        seeds = tuple(range(len(sets)))
        arms.append(ArmScores(points_S, resampled_SR, seeds, sets if k == 0 else None))
    return arms


def holds(found: Interval, truth: float) -> bool | None:
    """Return whether the interval holds the truth; None where there is no interval."""
    return None if np.isnan(found.low) else found.low <= truth <= found.high


def table_of_scores(repetitions: int) -> Iterator[str]:
    """Yield the second table."""
    yield "| images | labels | positives each | seeds | teacher sets | student % | difference % |"
    yield f"|{'--:|' * 7}"
    mean_ap = (Pictures(500, 8, 0.1), Pictures(2000, 8, 0.03))
    single = [Pictures(1000, 1, share) for share in (0.005, 0.01, 0.02, 0.05)]
    settings = [(p, sets) for p in mean_ap for sets in ((0, 0, 1), (0, 1, 2), (0, 0, 1, 1, 2))]
    for pictures, sets in [*settings, *((p, (0, 1, 2)) for p in single)]:
        truths = true_values(pictures, 20 * repetitions)
        rng = np.random.default_rng(2)
        held = []
        for _ in range(repetitions):
            try:
                student, baseline = arms_of_scores(pictures, sets, rng)
            except ValueError:  # a split without a positive has no average precision
                continue
            both = (interval(student), difference(student, baseline))
            held.append([holds(found, truth) for found, truth in zip(both, truths, strict=True)])
        made = [[h for h in column if h is not None] for column in zip(*held, strict=True)]
        shares = " | ".join(f"{100 * np.mean(column):.1f}" for column in made)
        without = 100 * (1 - len(made[0]) / repetitions)
        yield (
            f"| {pictures.num_images} | {pictures.num_labels} "
            f"| {pictures.num_images * pictures.share:.0f} | {len(sets)} | {len(set(sets))} "
            f"| {shares} |" + (f" (no interval in {without:.1f} %)" if without else "")
        )


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repetitions", type=int, default=2000)
    parser.add_argument("--with-scores", type=int, default=400)
    arguments = parser.parse_args()
    for line in table_of_effects(arguments.repetitions):
        print(line, flush=True)  # noqa: T201 - the table is what the script is for
    print()  # noqa: T201
    for line in table_of_scores(arguments.with_scores):
        print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
