"""Weights files: what is read, what is refused, and that nothing in them is run."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from cpsd.errors import ModelError
from cpsd.models.weights import DamagedWeightsError, load_weights, read_weights, write_weights


def linear_state() -> dict[str, Tensor]:
    return {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.tensor([1.0, -1.0])}


class TouchesAFile:
    """Pickles to a call that leaves a mark when it is run."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def test_weights_are_written_into_the_file_that_is_named_and_no_other(tmp_path: Path) -> None:
    path, same = tmp_path / "model.safetensors", tmp_path / "same"
    path.write_text("what is to be replaced")
    same.hardlink_to(path)
    write_weights(path, linear_state())
    # A library that begins elsewhere and renames leaves its own file there when it is killed.
    assert path.samefile(same)
    assert torch.equal(read_weights(path)["weight"], linear_state()["weight"])


@pytest.mark.parametrize(
    "content",
    [
        linear_state(),
        {"state_dict": linear_state(), "epoch": 3},
        {"model": linear_state(), "optimizer": {"lr": 0.1}},
        {f"module.{key}": value for key, value in linear_state().items()},
        {"state_dict": {f"module.{key}": value for key, value in linear_state().items()}},
    ],
    ids=["plain", "state_dict", "model", "parallel", "parallel state_dict"],
)
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt"])
def test_state_dicts_are_unwrapped(tmp_path: Path, content: dict[str, Any], suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    torch.save(content, path)
    state = read_weights(path)
    assert set(state) == {"weight", "bias"}
    assert torch.equal(state["weight"], linear_state()["weight"])
    assert torch.equal(state["bias"], linear_state()["bias"])


def test_safetensors_in_half_precision_become_float32_weights(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({key: value.half() for key, value in linear_state().items()}, path)
    layer = nn.Linear(3, 2)
    load_weights(layer, read_weights(path), origin=str(path))
    assert layer.weight.dtype == torch.float32
    assert torch.equal(layer.weight, linear_state()["weight"])


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    path, mark = tmp_path / "weights.pth", tmp_path / "mark"
    torch.save({"weight": torch.zeros(1), "extra": TouchesAFile(mark)}, path)
    with pytest.raises(ModelError, match=r"weights\.pth is damaged, or holds code"):
        read_weights(path)
    assert not mark.exists()
    torch.load(path, weights_only=False)  # the same file would run it when trusted
    assert mark.exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("page.ckpt", b"\xef\xbb\xbf<html>Not found</html>", "is a web page"),
        ("page.pth", b"<!DOCTYPE html><html>Sign in</html>", "is a web page"),
        ("page.safetensors", b"\n<html>Not found</html>", "is a web page"),
        ("lfs.safetensors", b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        ("empty.pth", b"", "is empty: download it again"),
        ("empty.safetensors", b"", "is empty: download it again"),
        ("noise.pth", bytes(range(256)), "damaged"),
        ("noise.safetensors", bytes(range(255, -1, -1)), "damaged"),
        ("old.pth", pickle.dumps(3), "damaged|holds no state_dict"),
        ("weights.h5", b"\x89HDF", r"ends in '\.h5'"),
    ],
)
def test_what_is_no_weights_file_is_refused(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=message) as raised:
        read_weights(tmp_path / name)
    assert name in str(raised.value)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(linear_state(), path)
    else:
        save_file(linear_state(), path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ModelError, match="damaged"):
        read_weights(path)


def test_a_flipped_bit_anywhere_in_our_own_file_is_seen_or_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    state = {**linear_state(), "count": torch.tensor(7), "none": torch.zeros(0)}
    write_weights(path, state)
    content, refused = path.read_bytes(), 0
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        try:
            found = read_weights(path)
        except DamagedWeightsError:
            refused += 1
        else:  # in the header: its hash has another name now, or it is filled up with tabs
            assert found.keys() == state.keys()
            assert all(torch.equal(found[key], state[key]) for key in state)
    numbers = 4 * 6 + 4 * 2 + 8
    assert refused > numbers
    path.write_bytes(content)
    assert read_weights(path)["count"] == 7


@pytest.mark.parametrize("missing", ["none.pth", "none.safetensors", "."])
def test_a_missing_file_or_a_folder_is_refused(tmp_path: Path, missing: str) -> None:
    with pytest.raises(ModelError, match="does not exist or is not a file"):
        read_weights(tmp_path / missing)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"epoch": 3, "weight": torch.zeros(1)}, "'epoch' holds int, not a tensor"),
        ({3: torch.zeros(1)}, "3 holds Tensor"),
        ({}, "holds no state_dict"),
        ([torch.zeros(1)], "holds no state_dict"),
    ],
)
def test_a_pth_without_a_plain_state_dict_is_refused(
    tmp_path: Path, content: object, message: str
) -> None:
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(ModelError, match=message):
        read_weights(tmp_path / "weights.pth")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bias": None}, "here: no weights for 'bias'"),
        ({"extra": torch.zeros(1)}, "here: the model has no place for 'extra'"),
        ({"weight": torch.zeros(3, 2)}, r"'weight' has shape \(3, 2\), the model needs \(2, 3\)"),
        ({"bias": torch.zeros(2, dtype=torch.int64)}, r"'bias' holds torch\.int64"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_loaded(
    change: dict[str, Tensor | None], message: str
) -> None:
    layer = nn.Linear(3, 2)
    before = {key: value.clone() for key, value in layer.state_dict().items()}
    state = {k: v for k, v in {**linear_state(), **change}.items() if v is not None}
    with pytest.raises(ModelError, match=message):
        load_weights(layer, state, origin="here")
    assert all(torch.equal(before[key], value) for key, value in layer.state_dict().items())


def test_many_missing_keys_are_counted() -> None:
    network = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1), nn.Linear(1, 1))
    with pytest.raises(ModelError, match=r"'0\.weight', '0\.bias', '1\.weight' and 3 more"):
        load_weights(network, {}, origin="here")


def test_batch_norm_without_a_counter_is_loaded() -> None:
    layer = nn.BatchNorm1d(2)
    state = {key: torch.full((2,), 0.5) for key in layer.state_dict() if "num_" not in key}
    load_weights(layer, state, origin="here")
    assert layer.running_mean is not None
    assert layer.running_mean.tolist() == [0.5, 0.5]
    assert layer.num_batches_tracked is not None
    assert layer.num_batches_tracked.item() == 0
