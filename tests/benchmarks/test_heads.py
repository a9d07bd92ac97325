"""The table of parameters: ours beside the published ones, in the documentation as counted."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest
import torch
from timm.layers.ml_decoder import MLDecoder

from cpsd.model_config import HeadName

ROOT = Path(__file__).resolve().parents[2]

untyped_ml_decoder: Any = MLDecoder


@pytest.fixture
def heads(benchmark_module: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark_module("heads")


def test_every_head_has_as_many_parameters_as_published(heads: ModuleType) -> None:
    lines = list(heads.parameter_table())
    assert set(heads.HEADS_AS_PUBLISHED) == set(get_args(HeadName))
    rows = [line.split(" | ") for line in lines[2:]]
    assert len(rows) == len(heads.HEADS_AS_PUBLISHED) + len(heads.NETWORKS)
    assert [row[0] for row in rows if row[1] != row[2] or row[3] != "+0"] == []
    documentation = (ROOT / "docs" / "heads.md").read_text(encoding="utf-8")
    assert "\n".join(lines) in documentation


def test_the_authors_ml_decoder_learns_what_the_table_says(heads: ModuleType) -> None:
    with torch.device("meta"):
        module = untyped_ml_decoder(80)
    learned = sum(p.numel() for name, p in module.named_parameters() if "query_embed" not in name)
    assert heads.HEADS_AS_PUBLISHED["ml-decoder"][0] == learned
