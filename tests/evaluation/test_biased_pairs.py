import numpy as np
import pytest
import sklearn.metrics

from cpsd.evaluation.biased_pairs import (
    CO_OCCURRENCE,
    MOST_PAIRS,
    SUPPORT,
    BiasedPair,
    choose_biased_pairs,
    find_biased_pairs,
)
from cpsd.labels import Targets
from simulated_scores import Logits, label_space, targets_and_logits


def by_loops(logits: Logits, targets: Targets) -> list[tuple[int, int, float]]:
    """The rule in the paper's words, image sets and all."""
    probabilities = 1 / (1 + np.exp(-logits.astype(np.float64)))
    rows = range(len(targets))
    found = []
    for b in range(targets.shape[1]):
        best: tuple[int, float] | None = None
        for z in range(targets.shape[1]):
            both = {i for i in rows if targets[i, b] == 1 and targets[i, z] == 1}
            alone = {i for i in rows if targets[i, b] == 1 and targets[i, z] == 0}
            if z == b or min(len(both), len(alone)) < SUPPORT:
                continue
            if len(both) / (len(both) + len(alone)) < CO_OCCURRENCE:
                continue
            means = [np.mean([probabilities[i, b] for i in images]) for images in (both, alone)]
            bias = float(means[0] / means[1])
            if best is None or bias > best[1]:
                best = (z, bias)
        if best is not None and best[1] > 1:
            found.append((b, *best))
    return sorted(found, key=lambda entry: -entry[2])[:MOST_PAIRS]


@pytest.mark.parametrize("unknown", [0.0, 0.1])
def test_pairs_equal_the_rule_in_loops(unknown: float) -> None:
    targets, logits = targets_and_logits(1, shape=(400, 8), share=0.2, unknown=unknown)
    chosen = choose_biased_pairs(logits["baseline"], targets, label_space(8))
    expected = by_loops(logits["baseline"], targets)
    assert len(expected) > 3
    assert [(pair.label, pair.context) for pair in chosen] == [
        (f"label {b}", f"label {c}") for b, c, _ in expected
    ]
    np.testing.assert_allclose([p.bias for p in chosen], [e[2] for e in expected], rtol=1e-5)


def test_no_more_than_the_papers_number_is_kept() -> None:
    targets, logits = targets_and_logits(2, shape=(400, 30), share=0.3)
    assert len(choose_biased_pairs(logits["baseline"], targets, label_space(30))) == MOST_PAIRS


def test_a_rare_context_is_none() -> None:
    targets, logits = targets_and_logits(3, shape=(1000, 2), share=0.5)
    targets[:, 1] = 0
    present = np.flatnonzero(targets[:, 0])
    targets[present[: SUPPORT + 5], 1] = 1  # enough images, but not a tenth of the label's
    logits["baseline"][targets[:, 1] == 1, 0] += 5
    assert CO_OCCURRENCE * len(present) > SUPPORT + 5
    chosen = choose_biased_pairs(logits["baseline"], targets, label_space(2))
    assert "label 0" not in {pair.label for pair in chosen}
    targets[present[:100], 1] = 1
    chosen = choose_biased_pairs(logits["baseline"], targets, label_space(2))
    assert ("label 0", "label 1") in {(pair.label, pair.context) for pair in chosen}


@pytest.mark.parametrize("unknown", [0.0, 0.1])
def test_scores_are_on_co_occurring_and_exclusive_images_against_those_without(
    unknown: float,
) -> None:
    targets, logits = targets_and_logits(4, shape=(400, 3), unknown=unknown)
    pair = BiasedPair("label 2", "label 0", 1.5)
    finding = find_biased_pairs(logits, targets, label_space(3), pairs=(pair,))
    (scored,) = finding.pairs
    b, c = targets[:, 2], targets[:, 0]
    for name, scores in scored.scores.items():
        for ap, context in zip(scores, (1, 0), strict=True):
            rows = (b == 0) | ((b == 1) & (c == context))
            expected = sklearn.metrics.average_precision_score(b[rows], logits[name][rows, 2])
            assert ap == pytest.approx(expected)
    assert scored.exclusive == ((b == 1) & (c == 0)).sum()
    assert scored.without_label == (b == 0).sum()


def test_a_predictor_that_leans_on_context_loses_on_exclusive_images() -> None:
    targets, logits = targets_and_logits(5, shape=(2000, 3))
    logits["baseline"][:, 0] += np.float32(2) * (targets[:, 1] == 1) - 1
    labels = label_space(3)
    pairs = choose_biased_pairs(logits["baseline"], targets, labels)
    assert (pairs[0].label, pairs[0].context) == ("label 0", "label 1")
    finding = find_biased_pairs(logits, targets, labels, pairs=pairs[:1])
    scores = finding.pairs[0].scores
    assert scores["baseline"][0] > scores["student"][0]
    assert scores["baseline"][1] < scores["student"][1] - 0.1
    assert finding.to_json()["mean"]["student"]["exclusive"] == pytest.approx(
        scores["student"][1], abs=1e-5
    )


def test_a_pair_with_too_few_images_is_left_out_and_counted() -> None:
    targets, logits = targets_and_logits(6, shape=(200, 3))
    targets[:, 1] = 0
    targets[np.flatnonzero(targets[:, 0])[: SUPPORT - 1], 1] = 1
    pairs = (BiasedPair("label 0", "label 1", 2.0), BiasedPair("label 0", "label 2", 1.5))
    said = find_biased_pairs(logits, targets, label_space(3), pairs=pairs).to_json()
    assert [entry["context"] for entry in said["pairs"]] == ["label 2"]
    assert (said["pairs_considered"], said["pairs_left_out"]) == (2, 1)


def test_no_pair_at_all_is_an_answer() -> None:
    targets, logits = targets_and_logits(7, shape=(8, 2))
    pairs = choose_biased_pairs(logits["baseline"], targets, label_space(2))
    assert pairs == ()
    said = find_biased_pairs(logits, targets, label_space(2), pairs=pairs).to_json()
    assert (said["pairs"], said["mean"]) == ([], {})
