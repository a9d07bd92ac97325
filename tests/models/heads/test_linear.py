"""The linear head against a loop in float64."""

from typing import Literal

import numpy as np
import pytest
import torch

from cpsd.errors import ConfigError
from cpsd.model_config import LinearConfig
from cpsd.models.heads.linear import LinearHead


@pytest.mark.parametrize("pooling", ["average", "max"])
def test_linear_head_is_a_linear_function_of_what_is_pooled(
    pooling: Literal["average", "max"],
) -> None:
    generator = torch.Generator().manual_seed(3)
    head = LinearHead(4, 3, pooling=pooling)
    features = torch.randn(2, 4, 3, 5, generator=generator)
    weight = head.linear.weight.detach().double().numpy()
    bias = head.linear.bias.detach().double().numpy()
    with torch.no_grad():
        logits = head(features).numpy()
    for image in range(2):
        for label in range(3):
            expected = bias[label]
            for channel in range(4):
                places = features[image, channel].double().numpy().ravel().tolist()
                pooled = sum(places) / len(places) if pooling == "average" else max(places)
                expected += weight[label, channel] * pooled
            assert np.isclose(logits[image, label], expected, atol=1e-6)


def test_another_pooling_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.linear\.pooling is 'median'.*'average' or"):
        LinearConfig(pooling="median")  # type: ignore[arg-type]
