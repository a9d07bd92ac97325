"""Fast form of a run: the same recipe with the teachers made cheap, for three plain trainings.

What it approximates is said in docs/recipes.md.
"""

from dataclasses import replace

from cpsd.config import RunConfig
from cpsd.models.stage_shares import stage_shares

BUDGET = 3.0
"""Plain trainings that baseline, teachers, soft labels and student may take, by operations."""
_RESERVE = 0.02
"""Plain trainings of it that are left for what is not counted here: a whole network's first layer
has no gradient of its input to compute, which makes the unit smaller. Validation is in both."""
_QUARTER = 4
"""Views, and teachers' epochs, are at most the student's epochs divided by this."""
_STEP = 3
"""Forward passes that a training step takes."""
_WEIGHT = 0.8
"""Share of distillation in the student's objective: chosen among 0.5, 0.8 and 1 on validation
pictures (docs/evidence.md)."""
_BASELINE = 1 / 3
"""Share of the baseline in the distillation: that of each of two strategies."""
_PARTS = 5
"""Parts of a partition where the settings do not say; with few labels there are fewer."""


def fast(config: RunConfig) -> RunConfig:
    """Return the fast form of ``config``.

    Teachers share the first stages of the baseline, as many as make up half of the backbone's
    operations. The rest of them starts from the pretrained weights, which makes them differ from
    the baseline, and this teaches beside them; without pretrained weights, or stages to share, they
    start where the baseline ended. Logits are stored for a view for every fourth epoch. The student
    trains as long as the baseline and follows them more than in the paper. Teachers get the epochs
    that the budget then leaves, a quarter of the student's at most and one at least.

    Raises:
        ModelError: timm has no such model, or it takes no pictures of this size.
    """
    epochs = config.training.epochs
    at_most = max(epochs // _QUARTER, 1)
    shares = stage_shares(config.model, config.image.size)
    halves = [i for i, share in enumerate(shares.stages) if share >= shares.backbone / 2]
    shared = shares.stages[halves[0]] if halves else 0.0
    strategies = len(config.partition.strategies)
    own = (1 - shared) * strategies * (config.partition.parts or _PARTS)
    fresh = bool(halves) and config.model.weights != "none"
    # In forward passes of the whole network over all training pictures. A strategy's teachers train
    # on a pass of their own; those of all strategies, and the baseline, store soft labels on one.
    stored = shared + own + (1 - shared) * fresh
    left = (BUDGET - 2 - _RESERVE) * _STEP * epochs - at_most * stored
    affordable = int(left / (strategies * shared + _STEP * own))
    return replace(
        config,
        teachers=replace(
            config.teachers,
            epochs=min(max(affordable, 1), at_most),
            shared_stages=halves[0] + 1 if halves else 0,
            start="fresh" if fresh else "baseline",
        ),
        distillation=replace(
            config.distillation,
            views=at_most,
            weight=_WEIGHT,
            baseline=_BASELINE if fresh else 0.0,
        ),
        student=replace(config.student, epochs=None),
    )
