import json

import numpy as np
import pytest

from cpsd.evaluation.context import MOST_LISTED, SUPPORT, ContextFinding, find_context
from cpsd.labels import Targets
from simulated_scores import Logits, label_space, targets_and_logits


def leaning(seed: int, *, unknown: float = 0.0) -> tuple[Targets, dict[str, Logits]]:
    """Label 0's logit of the baseline rises with label 1; the student's does not."""
    targets, logits = targets_and_logits(seed, shape=(2000, 5), unknown=unknown)
    logits["baseline"][:, 0] += np.float32(2) * (targets[:, 1] == 1)
    return targets, logits


def pair_of(finding: ContextFinding, label: str, context: str) -> int:
    return next(
        i for i, pair in enumerate(finding.pairs) if (pair.label, pair.context) == (label, context)
    )


@pytest.mark.parametrize("unknown", [0.0, 0.2])
def test_rates_equal_a_loop_over_images(unknown: float) -> None:
    targets, logits = targets_and_logits(5, shape=(300, 5), unknown=unknown)
    labels = label_space(5)
    finding = find_context(logits, targets, labels, threshold=0.4)
    assert len(finding.pairs) > 5
    for pair in finding.pairs:
        a, b = labels.index(pair.label), labels.index(pair.context)
        for name, rates in pair.rates.items():
            shares = []
            for own, other in ((1, 1), (1, 0), (0, 1), (0, 0)):
                told = [
                    1 / (1 + np.exp(-np.float64(z[a]))) >= 0.4
                    for z, y in zip(logits[name], targets, strict=True)
                    if y[a] == own and y[b] == other
                ]
                shares.append(np.mean(told))
            assert list(rates.values()) == pytest.approx(
                [*shares, shares[0] - shares[1], shares[2] - shares[3]]
            )


def test_the_pair_that_was_planted_leads_every_ranking() -> None:
    targets, logits = leaning(6)
    finding = find_context(logits, targets, label_space(5))
    planted = pair_of(finding, "label 0", "label 1")
    assert {ranking[0] for ranking in finding.rankings.values()} == {planted}
    pair = finding.pairs[planted]
    assert pair.rates["baseline"]["recall_gap"] > 0.2
    assert abs(pair.rates["student"]["recall_gap"]) < 0.1
    for gap, change in pair.changes.items():
        moved = pair.rates["student"][gap] - pair.rates["baseline"][gap]
        assert change.value == pytest.approx(moved)
        assert change.value < -2 * change.standard_error


def test_the_standard_error_is_that_of_a_bootstrap() -> None:
    targets, logits = leaning(7)
    labels = label_space(5)
    finding = find_context(logits, targets, labels)
    change = finding.pairs[pair_of(finding, "label 0", "label 1")].changes["recall_gap"]
    rng = np.random.default_rng(0)
    told = {name: z[:, 0] >= 0 for name, z in logits.items()}
    cells = [np.flatnonzero((targets[:, 0] == 1) & (targets[:, 1] == b)) for b in (1, 0)]
    gaps = []
    for _ in range(2000):
        means = []
        for cell in cells:
            rows = rng.choice(cell, len(cell))
            means.append(told["student"][rows].mean() - told["baseline"][rows].mean())
        gaps.append(means[0] - means[1])
    assert change.standard_error == pytest.approx(np.std(gaps), rel=0.08)


def test_pairs_without_support_are_counted_and_never_listed() -> None:
    targets, logits = targets_and_logits(8, shape=(200, 4), share=0.4)
    targets[:, 3] = 0
    targets[: SUPPORT - 1, 3] = 1  # one image too few
    finding = find_context(logits, targets, label_space(4))
    assert (finding.considered, finding.supported) == (12, 6)
    assert "label 3" not in {name for pair in finding.pairs for name in (pair.label, pair.context)}
    assert all(min(pair.images.values()) >= SUPPORT for pair in finding.pairs)
    assert finding.to_json()["pairs_without_support"] == 6


@pytest.mark.parametrize(("images", "supported"), [(SUPPORT, 2), (SUPPORT - 1, 0)])
def test_support_is_asked_of_every_cell(images: int, supported: int) -> None:
    cells = np.array([[1, 1], [1, 0], [0, 1], [0, 0]], np.int8)
    for scarce in range(4):
        copies = [images if cell == scarce else 3 * SUPPORT for cell in range(4)]
        targets = np.repeat(cells, copies, axis=0)
        logits = {"baseline": np.zeros(targets.shape, np.float32)}
        assert find_context(logits, targets, label_space(2)).supported == supported


def test_means_are_over_all_supported_pairs() -> None:
    targets, logits = targets_and_logits(9, shape=(400, 3))
    finding = find_context(logits, targets, label_space(3))
    assert finding.supported == 6
    told = logits["student"] >= 0
    recalls = [
        told[(targets[:, a] == 1) & (targets[:, b] == 1), a].mean()
        for a in range(3)
        for b in range(3)
        if a != b
    ]
    assert finding.means["student"]["recall_with_context"] == pytest.approx(np.mean(recalls))


def test_without_a_student_nothing_moves_but_gaps_are_there() -> None:
    targets, logits = leaning(10)
    finding = find_context({"baseline": logits["baseline"]}, targets, label_space(5))
    assert finding.compared is None
    assert finding.rankings["recall_gap_moved"] == finding.rankings["false_alarm_gap_moved"] == ()
    assert finding.rankings["recall_gap_largest"]
    assert finding.to_json()["pairs"][0]["recall_gap_change"] is None


def test_no_supported_pair_is_an_answer_too() -> None:
    targets, logits = targets_and_logits(11, shape=(12, 3))
    said = find_context(logits, targets, label_space(3)).to_json()
    assert (said["pairs_supported"], said["pairs"]) == (0, [])
    assert set(said["means"]["student"].values()) == {None}


def test_many_labels_make_a_short_file() -> None:
    targets, logits = targets_and_logits(12, shape=(300, 300), share=0.3)
    said = find_context(logits, targets, label_space(300)).to_json()
    assert said["pairs_considered"] == 300 * 299
    assert said["pairs_listed"] <= 4 * MOST_LISTED
    assert len(json.dumps(said)) < 100_000


def test_thresholds_by_label_are_used_and_named() -> None:
    targets, logits = targets_and_logits(13, shape=(300, 3))
    finding = find_context(logits, targets, label_space(3), threshold=np.array([0.9, 0.5, 0.5]))
    default = find_context(logits, targets, label_space(3))
    mean = "false_alarms_without_context"
    assert finding.means["student"][mean] < default.means["student"][mean]
    assert finding.to_json()["threshold"]["label 0"] == 0.9


def test_no_predictor_is_refused() -> None:
    with pytest.raises(ValueError, match="no predictor"):
        find_context({}, np.zeros((2, 2), np.int8), label_space(2))
