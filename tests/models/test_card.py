"""Model cards: what is read back, and every refusal; nothing in them is trusted."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from cpsd.config import ImageConfig
from cpsd.errors import ConfigError, ModelError
from cpsd.model_config import (
    CSRAConfig,
    CTranConfig,
    GCNConfig,
    LinearConfig,
    MLDecoderConfig,
    ModelConfig,
    QueryConfig,
    TransformerConfig,
)
from cpsd.models.card import CARD_FILE, ModelCard, PartCard, read_card, settings_of

CONFIG = ModelConfig(
    backbone="test_vit",
    head="ctran",
    label_embeddings="vectors.npy",
    label_embedding_width=12,
    non_commercial_weights=True,
    linear=LinearConfig(pooling="max"),
    transformer=TransformerConfig(width=4, head_width=7),
    query=QueryConfig(width=8, encoder_layers=0),
    ml_decoder=MLDecoderConfig(queries="learned"),
    csra=CSRAConfig(heads=4, residual=0.3),
    gcn=GCNConfig(threshold=0.6),
    ctran=CTranConfig(least_hidden=0.5),
)
CARD = ModelCard(
    labels=("ant", "bee"),
    model=asdict(CONFIG),
    image=asdict(ImageConfig(size=32)),
    part=PartCard("random", 1, "abc"),
    training={"epoch": 3},
)


def write(folder: Path, **changes: object) -> Path:
    content = asdict(CARD) | changes
    kept = {key: value for key, value in content.items() if value != "left out"}
    (folder / CARD_FILE).write_text(json.dumps(kept))
    return folder


def test_a_card_comes_back_as_it_was(tmp_path: Path) -> None:
    found = read_card(write(tmp_path))
    assert found == CARD
    assert settings_of(ModelConfig, found.model, "model") == CONFIG
    assert settings_of(ImageConfig, found.image, "image") == ImageConfig(size=32)
    assert read_card(write(tmp_path, part=None)) == replace(CARD, part=None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 2}, "format_version 2; this version of cpsd reads 1"),
        ({"format_version": "left out"}, "format_version None"),
        ({"labels": "left out"}, "'labels' must hold list, found nothing"),
        ({"labels": "cat"}, "'labels' must hold list, found str"),
        ({"labels": [1, 2]}, "'labels' holds 1"),
        ({"labels": ["cat", "cat"]}, "'cat' stands twice"),
        ({"labels": []}, "There is no label"),
        ({"image": None}, "'image' must hold dict, found NoneType"),
        ({"training": []}, "'training' must hold dict, found list"),
        ({"part": 3}, "'part' holds int"),
        ({"part": {"strategy": "random", "index": "0"}}, "'index' must hold int, found str"),
        ({"part": {"strategy": "random", "index": 0}}, "'partition_hash' must hold str, found no"),
        ({"cpsd_version": 1}, "'cpsd_version' must hold str"),
    ],
)
def test_a_card_that_does_not_fit_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message) as raised:
        read_card(write(tmp_path, **changes))
    assert str(tmp_path / CARD_FILE) in str(raised.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "cannot be read as JSON"),
        (b"\xff\xfe", "cannot be read as JSON"),
        (b"[" * 100_000, "cannot be read as JSON"),
        (b"[1]", "it holds list"),
        (b"", "cannot be read as JSON"),
    ],
)
def test_a_damaged_card_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / CARD_FILE).write_bytes(content)
    with pytest.raises(ModelError, match=message):
        read_card(tmp_path)


def test_a_folder_without_a_card_holds_no_finished_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no finished model in"):
        read_card(tmp_path)


def test_settings_that_are_left_out_are_the_defaults() -> None:
    found = settings_of(ModelConfig, {"head": "query", "query": {"width": 64}}, "model")
    assert found == ModelConfig(head="query", query=QueryConfig(width=64))


def test_a_whole_number_will_do_for_a_number() -> None:
    content = json.loads(json.dumps(asdict(ModelConfig(csra=CSRAConfig(residual=1)))))
    assert settings_of(ModelConfig, content, "model").csra.residual == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"backbon": "x"}, r"'model' has no setting 'backbon'\. Did you mean 'backbone'\?"),
        ({"query": {"widht": 8}}, r"'model\.query' has no setting 'widht'\. Did you mean 'width'"),
        ({"backbone": 5}, r"model\.backbone is 5, not a str"),
        ({"backbone": None}, r"model\.backbone is None, not a str"),
        ({"freeze_batch_norm": 1}, r"model\.freeze_batch_norm is 1, not a bool"),
        ({"label_embedding_width": True}, r"model\.label_embedding_width is True, not a int"),
        ({"label_embedding_width": 3.5}, r"model\.label_embedding_width is 3\.5, not a int"),
        ({"label_embeddings": 7}, r"model\.label_embeddings is 7"),
        ({"query": 3}, r"model\.query is 3, not a QueryConfig"),
        ({"query": None}, r"model\.query is None, not a QueryConfig"),
        ({"query": {"width": "8"}}, r"model\.query\.width is '8', not a int"),
        ({"csra": {"residual": False}}, r"model\.csra\.residual is False, not a float"),
        ({"backbone": {"width": 8}}, r"model\.backbone is {'width': 8}, not a str"),
    ],
)
def test_settings_of_another_kind_are_refused(content: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        settings_of(ModelConfig, content, "model")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"csra": {"heads": 3}}, r"model\.csra\.heads is 3"),
        ({"linear": {"pooling": "median"}}, r"model\.linear\.pooling is 'median'"),
        ({"ml_decoder": {"queries": "free"}}, r"model\.ml_decoder\.queries is 'free'"),
        ({"ctran": {"least_hidden": 0}}, r"model\.ctran\.least_hidden is 0"),
        ({"query": {"dropout": float("nan")}}, r"model\.query\.dropout is nan"),
        ({"label_embedding_width": 0}, r"model\.label_embedding_width is 0"),
    ],
)
def test_settings_of_a_bad_value_are_refused(content: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings_of(ModelConfig, content, "model")
