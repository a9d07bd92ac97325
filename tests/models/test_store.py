"""Saved models: what comes back, and every refusal."""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cpsd.config import ImageConfig
from cpsd.errors import ModelError, RunError
from cpsd.labels import LabelSpace
from cpsd.model_config import ModelConfig
from cpsd.models import store
from cpsd.models.card import CARD_FILE, ModelCard, PartCard, read_card
from cpsd.models.classifier import build_classifier
from cpsd.models.store import load_ensemble, load_model, save_model
from cpsd.partition import LabelPartition

LABELS = LabelSpace(("ant", "bee", "cat", "dog", "eel"))
CONFIG = ModelConfig(backbone="test_resnet", weights="none")
PARTITION = LabelPartition(
    strategy="dis-occurrence", labels=LABELS, parts=((1, 4), (0, 2, 3)), seed=0, normalized_cut=0.5
)


def card_for(labels: LabelSpace, *, part: PartCard | None = None) -> ModelCard:
    return ModelCard(
        labels=labels.names,
        model=asdict(replace(CONFIG, weights="timm")),
        image=asdict(ImageConfig(size=32)),
        part=part,
        training={"epoch": 3, "weights": "ema", "validation_map": 0.25},
    )


def linear_model(labels: LabelSpace) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(12, len(labels)))


def own_card(labels: LabelSpace, *, part: PartCard | None = None) -> ModelCard:
    return replace(card_for(labels, part=part), model={"factory": "photographer.models:make"})


def pictures(size: int = 32) -> Tensor:
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(4))


def save_teachers(folder: Path, partition: LabelPartition) -> None:
    for index in range(partition.num_parts):
        labels = partition.part_labels(index)
        part = PartCard(partition.strategy, index, partition.hash)
        save_model(folder / str(index), linear_model(labels), own_card(labels, part=part))


def edit_card(folder: Path, **changes: object) -> None:
    path = folder / CARD_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    folder = tmp_path / "student"
    save_model(folder, build_classifier(LABELS, CONFIG), card_for(LABELS))
    return folder


def test_a_model_comes_back_as_it_was(tmp_path: Path) -> None:
    model = build_classifier(LABELS, replace(CONFIG, normalization="symmetric"))
    with torch.no_grad():
        model(pictures())  # moves the running statistics away from where they start
        expected = model.eval()(pictures())
    card = card_for(LABELS, part=PartCard("random", 1, "abc"))
    card = replace(card, model={**card.model, "normalization": "symmetric"})
    save_model(tmp_path / "a" / "b", model, card)
    before = torch.random.get_rng_state()
    loaded, loaded_card = load_model(tmp_path / "a" / "b")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert loaded_card == card
    assert not loaded.training
    with torch.no_grad():
        assert torch.equal(loaded(pictures()), expected)
    names = {path.name for path in (tmp_path / "a" / "b").iterdir()}
    assert names == {"model.json", "model.safetensors"}


def test_shared_and_scattered_tensors_are_saved(tmp_path: Path) -> None:
    def tied(labels: LabelSpace) -> nn.Module:
        network = nn.Sequential(nn.Flatten(), nn.Linear(12, 12), nn.Linear(12, 12))
        network[2].weight = network[1].weight
        network[1].bias = nn.Parameter(torch.arange(24.0)[::2])
        return network

    model = tied(LABELS)
    save_model(tmp_path, model, own_card(LABELS))
    loaded, _ = load_model(tmp_path, make_model=tied)
    with torch.no_grad():
        assert torch.equal(loaded(pictures(2)), model(pictures(2)))


def test_a_model_is_replaced_and_a_failed_save_leaves_no_finished_model(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(
        saved, build_classifier(LABELS, CONFIG), replace(card_for(LABELS), training={"n": 2})
    )
    assert read_card(saved).training == {"n": 2}

    def full(path: Path, state: dict[str, Tensor]) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "write_weights", full)
    with pytest.raises(RunError, match="disk is full"):
        save_model(saved, build_classifier(LABELS, CONFIG), card_for(LABELS))
    assert [path.name for path in saved.iterdir()] == ["model.safetensors"]
    with pytest.raises(ModelError, match="no finished model"):
        load_model(saved)


def test_state_that_is_no_tensor_is_refused(tmp_path: Path) -> None:
    class Counts(nn.Module):
        def get_extra_state(self) -> dict[str, int]:
            return {"n": 1}

    with pytest.raises(ModelError, match="'_extra_state' is dict, not a tensor"):
        save_model(tmp_path / "model", Counts(), card_for(LABELS))
    assert not (tmp_path / "model").exists()


def test_a_users_own_model_needs_make_model_and_is_never_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photographer.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    model, folder = linear_model(LABELS), tmp_path / "model"
    card = replace(own_card(LABELS), model={"factory": "photographer:make"})
    save_model(folder, model, card)
    with pytest.raises(ModelError, match=r"'photographer:make'.*pass make_model, or --factory"):
        load_model(folder)
    assert "photographer" not in sys.modules
    loaded, _ = load_model(folder, make_model=linear_model)
    with torch.no_grad():
        assert torch.equal(loaded(pictures(2)), model(pictures(2)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 2}, "format_version 2; this version of cpsd reads 1"),
        ({"labels": []}, "There is no label"),
        ({"model": {"backbon": "x"}}, r"no setting 'backbon'\. Did you mean 'backbone'\?"),
        ({"model": {"backbone": 5}}, r"model\.backbone is 5, not a str"),
        ({"model": {"head": "csra", "csra": {"heads": 3}}}, r"model\.csra\.heads is 3; it must be"),
        ({"model": {"backbone": "hf-hub:someone/model"}}, "timm has no model"),
        ({"model": {"backbone": "test_resnet", "head": "other"}}, "no head 'other'"),
        # weights that fit another card
        ({"labels": ["cat"]}, r"'head\.linear\.weight' has shape \(5, 96\), the model needs"),
        ({"model": {"backbone": "test_vit"}}, "no weights for 'backbone"),
    ],
)
def test_a_card_that_does_not_fit_is_refused(
    saved: Path, changes: dict[str, Any], message: str
) -> None:
    edit_card(saved, **changes)
    with pytest.raises(ModelError, match=message) as raised:
        load_model(saved)
    assert str(saved) in str(raised.value)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _drop_a_key(path: Path) -> None:
    state = load_file(path)
    del state["head.linear.bias"]
    save_file(state, path)


def _add_a_key(path: Path) -> None:
    save_file({**load_file(path), "head.extra": torch.zeros(1)}, path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_truncate, "damaged"),
        (Path.unlink, "does not exist"),
        (_drop_a_key, r"no weights for 'head\.linear\.bias'"),
        (_add_a_key, r"no place for 'head\.extra'"),
    ],
)
def test_damaged_weights_are_refused(
    saved: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(saved / store.WEIGHTS_FILE)
    with pytest.raises(ModelError, match=message) as raised:
        load_model(saved)
    assert str(saved / "model.safetensors") in str(raised.value)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no finished model in"):
        load_model(tmp_path / "nothing")


def test_an_ensemble_comes_back_as_it_was(tmp_path: Path) -> None:
    save_teachers(tmp_path, PARTITION)
    (tmp_path / "logs").mkdir()
    ensemble = load_ensemble(tmp_path, PARTITION, make_model=linear_model)
    assert not any(module.training for module in ensemble.modules())
    with torch.no_grad():
        logits = ensemble(pictures(2))
        for index, part in enumerate(PARTITION.parts):
            teacher, _ = load_model(tmp_path / str(index), make_model=linear_model)
            assert torch.equal(logits[:, list(part)], teacher(pictures(2)))


def _other_hash(folder: Path) -> None:
    edit_card(folder / "1", part=asdict(PartCard("dis-occurrence", 1, "f" * 64)))


def _other_labels(folder: Path) -> None:
    edit_card(folder / "1", labels=["ant", "dog", "cat"])


def _no_such_part(folder: Path) -> None:
    edit_card(folder / "1", part=asdict(PartCard("dis-occurrence", -1, PARTITION.hash)))


def _student(folder: Path) -> None:
    edit_card(folder / "1", part=None)


def _swap(folder: Path) -> None:
    (folder / "0").rename(folder / "x")
    (folder / "1").rename(folder / "0")
    (folder / "x").rename(folder / "1")


WRONG_TEACHERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda f: shutil.rmtree(f / "1"), r"part 1 \(ant, cat, dog\) is missing.*1\.$"),
    "unfinished": (lambda f: (f / "1" / "model.json").unlink(), r"part 1 \(ant, .* is missing"),
    "doubled": (lambda f: shutil.copytree(f / "0", f / "2"), r"0 and .*2 both hold .*\(bee, eel\)"),
    "doubled over another": (
        lambda f: shutil.copytree(f / "0", f / "1", dirs_exist_ok=True),
        r"0 and .*1 both hold the teacher of dis-occurrence part 0 \(bee, eel\)",
    ),
    "other partition": (
        _other_hash,
        r"1 holds the teacher of part 1 of another .* \(f{12}, needed",
    ),
    "no such part": (_no_such_part, "part -1 of another"),
    "other labels": (_other_labels, r"1 names the labels ant, dog, cat, but .* has ant, cat, dog"),
    "no teacher": (_student, "1 holds a predictor over all labels"),
    "swapped": (_swap, r"1 holds the teacher of .* part 0 \(bee, eel\), which belongs into"),
    "no folder": (shutil.rmtree, "no folder .* with dis-occurrence teachers"),
}


@pytest.mark.parametrize(("damage", "message"), WRONG_TEACHERS.values(), ids=WRONG_TEACHERS)
def test_an_ensemble_with_a_wrong_teacher_is_refused_by_name(
    tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    folder = tmp_path / "teachers"
    save_teachers(folder, PARTITION)
    damage(folder)
    with pytest.raises(ModelError, match=message):
        load_ensemble(folder, PARTITION, make_model=linear_model)
