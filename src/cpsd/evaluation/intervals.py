"""Intervals of arms and of differences between arms: a bootstrap over seeds and test images.

Shapes: S seeds (or teacher sets), R resamples of the test images, D replicates.

``METHOD`` says in words what is done. In symbols, for the value ``x_s`` of each seed on the whole
test split and ``x_sr`` under resample r, one replicate is

    mean_s(x_s)  +  [ mean_s(x_sr) - mean_sr(x_sr) ]  +  deviation of the seeds

The bracket is the bootstrap of images, moved so that the interval lies about the value reported:
average precision of images that were drawn twice is too high, with rare labels by more than the
interval is wide. The deviation of the seeds
is that of ``cpsd.evaluation.seed_level``. An interval is from the 2.5th to the 97.5th percentile.

Seeds are crossed with images, not nested in them, so both levels are drawn independently of each
other (the pigeonhole bootstrap: Owen, 2007; in general Davison and Hinkley, 1997, section 3.8).
What a seed does to single images counts at both levels, which errs to the wide side, and so does
the sum of a t and a normal part (Behrens' and Fisher's distribution: Robinson, 1976).
``benchmarks/bootstrap_coverage.py`` checks how often the intervals hold the truth.

Sources:
    Davison and Hinkley (1997), Bootstrap methods and their application.
    Owen (2007), The pigeonhole bootstrap, Ann. Appl. Stat. 1.
    Robinson (1976), Properties of Student's t and of the Behrens-Fisher solution to the two means
    problem, Ann. Stat. 4.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpsd.evaluation.seed_level import seed_deviations

Floats = NDArray[np.float64]

LEVEL = 0.95
"""How often an interval should hold the truth."""
_FEWEST_REPLICATES = 100_000
_MOST_UNDEFINED = 0.05

METHOD = """\
Two things here are due to chance: the seeds (initial weights, the order and the views of the \
pictures, and the teachers that were trained with them) and which images are in the test split. An \
interval covers both. It is about the mean over further seeds and further test splits of this size \
from the same source, with the same training data and the same settings; it says nothing of other \
data or other settings.

Test images: as many images as there are were drawn with replacement, again and again, and every \
predictor was scored on every such resample, all arms on the same ones. Their spread counts, not \
their mean: images that stand there twice flatter average precision a little. Seeds: each seed is \
given random weights, the same for all arms, scaled so that a spread seen in a few seeds is \
trusted as little as Student's t distribution says. Drawing 3 seeds from 3 would give intervals \
far too narrow.

A difference between two arms is taken seed by seed and resample by resample first, so that what a \
seed or an image does to both arms cancels. Where one of the arms is a teacher ensemble, which has \
no seeds, only the images are paired.

Students of one teacher set share its luck. With three or more teacher sets the students of a set \
are averaged, and the sets take the place of the seeds. With two, the share of the spread that is \
due to teacher sets can hardly be told from the data; it is assumed to be large (two thirds \
before the data are seen), so the interval is rather too wide than too narrow, unless nearly all \
the spread is due to teacher sets. With one, the interval is conditional on that teacher set. With \
one seed, it is over test images only. Each of these is said beside the interval.

In simulations, where the truth is known, such intervals held it in 93 to 100 % of cases, and in \
92 % for a label with five positives.

Each interval stands for itself: where many are looked at, one in twenty leaves out the truth by \
chance."""
"""How intervals come about, for a reader who is no statistician; paragraphs between blank lines."""


@dataclass(frozen=True, eq=False)
class ArmScores:
    """One arm's metric for each of its seeds.

    A teacher ensemble has no seeds of its own: its rows are teacher sets, and ``seeds`` is None.

    Args:
        points: ``(S,)``, the metric on the test split, a fraction.
        resampled: ``(S, R)``, the same under each resample of its images; NaN where undefined.
        seeds: the seed of each row, or None.
        teacher_sets: the teacher set of each row; None for an arm without teachers.

    Raises:
        ValueError: shapes that do not fit, a point that is not finite, a seed that stands twice,
            or neither seeds nor teacher sets.
    """

    points: Floats
    resampled: Floats
    seeds: tuple[int, ...] | None = None
    teacher_sets: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        num_rows = len(self.points)
        if self.points.ndim != 1 or num_rows == 0 or not np.isfinite(self.points).all():
            raise ValueError(f"The points {self.points} must be one finite value or more.")
        if self.resampled.ndim != 2 or len(self.resampled) != num_rows or not self.resampled.size:
            raise ValueError(f"Resamples of shape {self.resampled.shape} for {num_rows} points.")
        if len(self.rows) != num_rows or len(set(self.rows)) < num_rows:
            raise ValueError(f"{num_rows} points need as many distinct seeds or sets: {self.rows}.")
        if self.teacher_sets is not None and len(self.teacher_sets) != num_rows:
            raise ValueError(f"{num_rows} points of teacher sets {self.teacher_sets}.")

    @property
    def rows(self) -> tuple[int, ...]:
        """What tells the rows apart: the seeds, or a teacher ensemble's teacher sets."""
        return (self.teacher_sets if self.seeds is None else self.seeds) or ()

    @property
    def num_teacher_sets(self) -> int | None:
        """How many teacher sets there are; None for an arm without teachers."""
        return None if self.teacher_sets is None else len(set(self.teacher_sets))


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval, as fractions.

    Args:
        mean: the mean over seeds.
        low: lower end; NaN where no interval can be made, which ``note`` then says.
        high: upper end.
        num_seeds: seeds it rests on; None for a teacher ensemble.
        num_teacher_sets: teacher sets; None where no teacher is involved.
        covers_seeds: whether chance in training is covered; not where an arm has one value.
        note: what the interval does not cover, in sentences; empty where it covers all.
    """

    mean: float
    low: float
    high: float
    num_seeds: int | None
    num_teacher_sets: int | None
    covers_seeds: bool
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold: NaN as null."""
        return {
            name: None if isinstance(value, float) and math.isnan(value) else value
            for name, value in asdict(self).items()
        }


def interval(arm: ArmScores, *, seed: int = 0) -> Interval:
    """Return the mean of ``arm`` with its interval.

    Args:
        arm: the scores.
        seed: of the seeds' random weights; use one for all arms.

    Example:
        >>> resampled_SR = np.array([[0.49, 0.50, 0.51], [0.51, 0.52, 0.53]])
        >>> interval(ArmScores(resampled_SR[:, 1], resampled_SR, seeds=(0, 1))).note
        'Two seeds say little of how much seeds differ, so the interval is very wide.'
    """
    return _interval([arm], _notes(arm), within=(0, 1), seed=seed)


def difference(arm: ArmScores, reference: ArmScores, *, seed: int = 0) -> Interval:
    """Return ``arm - reference`` with its interval, paired by seed and by image.

    Of two arms with seeds, only the seeds that both have count. A teacher ensemble has none, so it
    is paired with an arm of seeds by image alone.

    Args:
        arm: the arm; a positive difference says that it is the better one.
        reference: what it is compared with, under the same resamples.
        seed: of the seeds' random weights; use one for all differences.

    Raises:
        ValueError: other numbers of resamples, no seed in common, or seeds that are spread over
            teacher sets in two ways.

    Example:
        >>> resampled_SR = np.array([[0.49, 0.50, 0.51], [0.51, 0.52, 0.53]])
        >>> arm = ArmScores(resampled_SR[:, 1], resampled_SR, seeds=(0, 1))
        >>> found = difference(arm, arm)
        >>> found.mean, found.low, found.high
        (0.0, 0.0, 0.0)
    """
    if arm.resampled.shape[1] != reference.resampled.shape[1]:
        raise ValueError(
            f"{arm.resampled.shape[1]} and {reference.resampled.shape[1]} resamples: arms are "
            "compared under the same ones."
        )
    if (arm.seeds is None) != (reference.seeds is None):
        notes = ["Paired by test images alone.", *_notes(arm), *_notes(reference)]
        return _interval([arm, reference], notes, within=(-1, 1), seed=seed)
    paired = _paired(arm, reference)
    notes = _notes(paired)
    if len(paired.points) < max(len(arm.points), len(reference.points)):
        what = "teacher sets" if arm.seeds is None else "seeds"
        notes = [f"Over the {len(paired.points)} {what} that both arms have.", *notes]
    return _interval([paired], notes, within=(-1, 1), seed=seed)


def _paired(arm: ArmScores, reference: ArmScores) -> ArmScores:
    """Return the differences of the rows that both arms have."""
    both = sorted(set(arm.rows) & set(reference.rows))
    if not both:
        raise ValueError(f"{arm.rows} and {reference.rows} have no seed (or set) in common.")
    first, second = ([a.rows.index(row) for row in both] for a in (arm, reference))
    sets = [
        tuple(a.teacher_sets[i] for i in chosen)
        for a, chosen in ((arm, first), (reference, second))
        if a.teacher_sets is not None
    ]
    if len(set(sets)) > 1:
        raise ValueError(f"The seeds are spread over teacher sets in two ways: {sets}.")
    return ArmScores(
        arm.points[first] - reference.points[second],
        arm.resampled[first] - reference.resampled[second],
        seeds=None if arm.seeds is None else tuple(both),
        teacher_sets=sets[0] if sets else None,
    )


def _interval(
    parts: list[ArmScores], notes: list[str], *, within: tuple[int, int], seed: int
) -> Interval:
    """Return the interval of one arm, or of the first arm less the second."""
    signed = list(zip((1, -1), parts, strict=False))
    mean = float(sum(sign * part.points.mean() for sign, part in signed))
    images_R = np.sum([sign * part.resampled.mean(axis=0) for sign, part in signed], axis=0)
    defined_R = images_R[np.isfinite(images_R)]
    low = high = math.nan
    if len(defined_R) >= (1 - _MOST_UNDEFINED) * len(images_R):
        images_D = np.tile(defined_R - defined_R.mean(), _repeats(len(defined_R)))
        seeds_D = sum(
            sign * seed_deviations(p.points, p.teacher_sets, len(images_D), seed=seed, stream=k)
            for k, (sign, p) in enumerate(signed)
        )
        replicates_D = mean + images_D + seeds_D
        tails = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
        low, high = np.clip(np.quantile(replicates_D, tails), *within).tolist()
    else:
        notes = [*notes, "Too few positives for an interval."]
    return Interval(
        mean,
        low,
        high,
        num_seeds=min((len(p.seeds) for p in parts if p.seeds is not None), default=None),
        num_teacher_sets=min((n for p in parts if (n := p.num_teacher_sets)), default=None),
        covers_seeds=min(len(p.points) for p in parts) > 1,
        note=" ".join(dict.fromkeys(notes)),
    )


def _repeats(num_resamples: int) -> int:
    """Return how often, an even number of times, each resample is joined with seeds' weights."""
    return 2 * math.ceil(_FEWEST_REPLICATES / (2 * num_resamples))


def _notes(arm: ArmScores) -> list[str]:
    """Return in sentences what the interval of ``arm`` does not cover."""
    num_rows, num_sets = len(arm.points), arm.num_teacher_sets
    unit = "teacher set" if arm.seeds is None else "seed"
    if num_rows == 1:
        return [f"One {unit}: the interval is over test images only, not over chance in training."]
    notes = []
    if num_sets == 1 and unit == "seed":
        notes.append("Conditional on one teacher set: how much another would change is not known.")
    if num_sets == 2 and num_rows > 2:
        notes.append("Two teacher sets: how much sets differ is assumed more than it is seen.")
    if num_rows == 2:
        notes.append(
            f"Two {unit}s say little of how much {unit}s differ, so the interval is very wide."
        )
    return notes
