"""Class-specific residual attention against the paper's formulas in a loop."""

import math
from typing import Any

import pytest
import torch

from cpsd.errors import ConfigError
from cpsd.model_config import CSRAConfig
from cpsd.models.heads.csra import CSRAHead
from tiny_heads import features, shake

INFINITE = math.inf
TEMPERATURES: dict[int, list[float]] = {
    1: [1],
    2: [1, INFINITE],
    4: [1, 2, 4, INFINITE],
    6: [1, 2, 3, 4, 5, INFINITE],
    8: [1, 2, 3, 4, 5, 6, 7, INFINITE],
}


def expected(
    places: list[list[float]], classifiers: list[list[float]], residual: float, heads: int
) -> float:
    """Return one label's logit: equations 3 to 9, a classifier an attention head."""
    logit = 0.0
    for classifier, temperature in zip(classifiers, TEMPERATURES[heads], strict=True):
        length = math.sqrt(sum(weight**2 for weight in classifier))
        scores = [
            sum(w * x for w, x in zip(classifier, place, strict=True)) / length for place in places
        ]
        if temperature == INFINITE:
            attended = max(scores)
        else:
            weights = [math.exp(temperature * score) for score in scores]
            attended = sum(
                weight / sum(weights) * score for weight, score in zip(weights, scores, strict=True)
            )
        logit += sum(scores) / len(scores) + residual * attended
    return logit


@pytest.mark.parametrize(("heads", "residual"), [(1, 0.1), (1, 0.0), (2, 0.3), (4, 1.0), (8, 0.2)])
@pytest.mark.parametrize("scale", [0.05, 3.0])
def test_logits_are_those_of_the_formula(heads: Any, residual: float, scale: float) -> None:
    head = CSRAHead(5, 3, CSRAConfig(heads=heads, residual=residual))
    shake(head)
    features_BDHW = scale * features(2, 5, 2, 4)
    logits = head(features_BDHW)
    weights = head.classifier.weight.reshape(heads, 3, 5)
    for image in range(2):
        places = features_BDHW[image].flatten(1).T.tolist()
        for label in range(3):
            logit = expected(places, weights[:, label].tolist(), residual, heads)
            assert logits[image, label].item() == pytest.approx(logit, abs=1e-9)


def test_the_maximum_has_the_gradient_of_the_maximum() -> None:
    head = CSRAHead(4, 2, CSRAConfig(heads=2, residual=0.7))
    shake(head)
    features_BDHW = features(2, 4, 3, 3).requires_grad_()
    head(features_BDHW).sum().backward()
    found = features_BDHW.grad
    again = features_BDHW.detach().requires_grad_()
    scores = torch.einsum("bdhw,cd->bchw", again, head.classifier.weight).flatten(2)
    scores = scores / head.classifier.weight.norm(dim=1)[:, None]
    soft, hard = scores[:, :2], scores[:, 2:]
    attended = (soft.softmax(dim=2) * soft).sum(dim=2) + hard.amax(dim=2)
    (scores.mean(dim=2).sum() + 0.7 * attended.sum()).backward()
    torch.testing.assert_close(found, again.grad)


def test_published_parameter_count_is_that_of_linear_layers_without_bias() -> None:
    counts = [
        sum(p.numel() for p in CSRAHead(2048, 80, CSRAConfig(heads=heads)).parameters())
        for heads in (1, 4)
    ]
    assert counts == [163_840, 4 * 163_840]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 3}, r"csra\.heads is 3; it must be 1, 2, 4, 6 or 8"),
        ({"residual": -1.0}, r"csra\.residual is -1\.0"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CSRAConfig(**changes)
