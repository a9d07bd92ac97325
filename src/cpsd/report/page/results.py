"""The result table: every predictor on every test split, with intervals where the run has them."""

from dataclasses import dataclass

from cpsd.report.page.run_files import FINDINGS_FOLDER, RunFiles, in_predictor_order
from cpsd.report.page.traced import Figure, Traced, difference, figure, interval

METRICS = ("mAP", "CF1", "OF1", "CP", "CR", "OP", "OR")
BASELINE = "baseline"


@dataclass(frozen=True)
class Score:
    """A metric of one predictor, its interval where there is one."""

    value: Figure
    interval: Figure | None
    tone: str = ""
    """``up`` or ``down`` for a difference that is shown (``tone``)."""


@dataclass(frozen=True)
class ResultRow:
    """One predictor on one split.

    Args:
        predictor: its name.
        scores: by metric.
        top_scores: CF1 and OF1 where only the highest labels of a picture count.
        to_baseline: difference in mAP; none for the baseline.
    """

    predictor: str
    scores: dict[str, Score]
    top_scores: dict[str, Figure]
    to_baseline: Score | None


@dataclass(frozen=True)
class SplitResults:
    """All predictors on one split.

    Args:
        split: its name.
        num_images: of the split.
        threshold: probability from which a label counts as predicted.
        by_label: each label and predictor has a threshold of its own instead.
        top_k: labels a picture in ``top_scores``.
        rows: the predictors.
        excluded: labels without a positive, which no mean over labels holds.
        distances: how far the student is from its teachers: name, logits, probabilities.
        notes: what the intervals are conditional on.
        verdicts: sentences that follow from the intervals.
    """

    split: str
    num_images: Figure
    threshold: Figure
    by_label: bool
    top_k: Figure
    rows: list[ResultRow]
    excluded: Traced
    distances: list[tuple[str, Figure, Figure]]
    notes: list[Traced]
    verdicts: list[Traced]

    def row(self, predictor: str) -> ResultRow | None:
        """Return the row of ``predictor``, None where it was not scored."""
        return next((row for row in self.rows if row.predictor == predictor), None)

    @property
    def has_intervals(self) -> bool:
        """Whether any figure has an interval."""
        return any(row.scores["mAP"].interval for row in self.rows)


def split_results(files: RunFiles, boards: dict[str, Traced]) -> list[SplitResults]:
    """Return the results of every test split, ``test`` first."""
    return [
        _split(split, board, files.json(f"{FINDINGS_FOLDER}/intervals-{split}.json"))
        for split, board in boards.items()
    ]


def _split(split: str, board: Traced, intervals: Traced) -> SplitResults:
    names = in_predictor_order([name for name, _ in board.at("predictors").items()])
    first = board.at("predictors", names[0] if names else BASELINE)
    spans = intervals.at("predictors", names[0] if names else BASELINE, "mAP")
    cut = first.at("threshold")
    return SplitResults(
        split=split,
        num_images=figure(first.at("num_images"), "count"),
        threshold=figure(cut, "value"),
        by_label=isinstance(cut.value, dict),
        top_k=figure(first.at("top_k"), "count"),
        rows=[_row(board, intervals, name) for name in names],
        excluded=first.at("excluded_labels"),
        distances=[
            (
                name,
                figure(distance.at("squared_logit"), "decimal"),
                figure(distance.at("absolute_probability"), "decimal"),
            )
            for name, distance in board.at("student_teacher_distance").items()
        ],
        notes=[note for note in (spans.at("note"),) if note.value],
        verdicts=[verdict.at("text") for verdict in intervals.at("verdicts").entries()],
    )


def _row(board: Traced, intervals: Traced, name: str) -> ResultRow:
    metrics = board.at("predictors", name)
    top = metrics.at(f"top{metrics.at('top_k').value}")
    spans = intervals.at("predictors", name)
    to_baseline = None
    if name != BASELINE:
        baseline = board.at("predictors", BASELINE, "mAP")
        value = difference(metrics.at("mAP"), baseline)
        bounds = intervals.at("differences", name, "mAP")
        to_baseline = Score(value, span(bounds, signed=True), tone(bounds))
    return ResultRow(
        predictor=name,
        scores={
            metric: Score(figure(metrics.at(metric), "percent"), span(spans.at(metric)))
            for metric in METRICS
        },
        top_scores={key: figure(top.at(key), "percent") for key in ("CF1", "OF1")},
        to_baseline=to_baseline,
    )


def span(spanned: Traced, *, signed: bool = False) -> Figure | None:
    """Return the bounds of an interval, in percent or as a difference with its sign."""
    return interval(spanned.at("low"), spanned.at("high"), "points" if signed else "percent")


def tone(spanned: Traced) -> str:
    """Return ``up`` or ``down`` where an interval leaves zero out, else an empty string.

    An interval that does not cover chance in training shows no difference, wherever it lies.

    Example:
        >>> tone(Traced({"low": 0.01, "high": 0.03}, "a"))
        'up'
        >>> tone(Traced({"low": -0.01, "high": 0.03}, "a"))
        ''
        >>> tone(Traced({"low": 0.01, "high": 0.03, "covers_seeds": False}, "a"))
        ''
    """
    low, high = spanned.at("low").value, spanned.at("high").value
    shows_nothing = spanned.at("covers_seeds").value is False
    if shows_nothing or low is None or high is None or low <= 0 <= high:
        return ""
    return "up" if low > 0 else "down"
