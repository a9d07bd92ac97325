"""Heads against a loop in float64."""

import numpy as np
import torch

from cpsd.models.heads import HEADS, LinearHead


def test_linear_head_is_a_linear_function_of_the_mean_over_places() -> None:
    generator = torch.Generator().manual_seed(3)
    head = LinearHead(4, 3)
    features = torch.randn(2, 4, 3, 5, generator=generator)
    weight = head.linear.weight.detach().double().numpy()
    bias = head.linear.bias.detach().double().numpy()
    with torch.no_grad():
        logits = head(features).numpy()
    for image in range(2):
        for label in range(3):
            expected = bias[label]
            for channel in range(4):
                places = features[image, channel].double().numpy().ravel()
                expected += weight[label, channel] * sum(places) / len(places)
            assert np.isclose(logits[image, label], expected, atol=1e-6)


def test_heads_are_built_by_name() -> None:
    assert HEADS["linear"](4, 3)(torch.zeros(1, 4, 2, 2)).shape == (1, 3)
