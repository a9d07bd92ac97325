import numpy as np
import pytest

from cpsd.evaluation import pair_counts
from cpsd.evaluation.pair_counts import images_of_pairs, pair_sums
from simulated_scores import targets_and_logits

STATES = ((1, 1), (1, 0), (0, 1), (0, 0))


@pytest.mark.parametrize("most_cells", [12, 1 << 22])
def test_equals_a_loop_over_pairs(monkeypatch: pytest.MonkeyPatch, most_cells: int) -> None:
    monkeypatch.setattr(pair_counts, "_MOST_CELLS", most_cells)
    targets, logits = targets_and_logits(1, shape=(50, 5), unknown=0.2)
    predicted = logits["student"] > 0
    sums, images = pair_sums(predicted, targets), images_of_pairs(targets)
    for k, (own, other) in enumerate(STATES):
        for a in range(5):
            for b in range(5):
                cell = (targets[:, a] == own) & (targets[:, b] == other)
                assert images[k, a, b] == cell.sum()
                assert sums[k, a, b] == (predicted[:, a] & cell).sum()


def test_weights_may_be_any_numbers() -> None:
    targets, logits = targets_and_logits(2, shape=(40, 3))
    with_both = (targets[:, 0] == 1) & (targets[:, 2] == 1)
    expected = logits["student"][with_both, 0].astype(np.float64).sum()
    assert pair_sums(logits["student"], targets)[0, 0, 2] == pytest.approx(expected, rel=1e-5)


def test_weights_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        pair_sums(np.ones((2, 2)), np.zeros((3, 2), np.int8))
