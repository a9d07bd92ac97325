"""Weights files: read without running anything they hold, and fitted key by key."""

import codecs
import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from cpsd.errors import ModelError

TORCH_SUFFIXES = (".pth", ".pt", ".ckpt")
WRAPPERS = ("state_dict", "model")
"""Keys under which training scripts put the weights, beside the optimizer and the epoch."""

_DIGEST = "cpsd.sha256"
"""In the header of our own safetensors files: a hash of their tensors; the format has none."""
_PARALLEL_PREFIX = "module."
_COUNTER = "num_batches_tracked"
_IMPOSTORS = {
    b"<": "is a web page, not weights: download the file itself",
    b"version https://git-lfs": "is a Git LFS pointer, not weights: fetch it with 'git lfs pull'",
}


class DamagedWeightsError(ModelError):
    """A weights file is not as it was written."""


def write_weights(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write contiguous tensors as safetensors, with a hash by which damage is seen."""
    # Not save_file, which begins in a file of another name, where a kill leaves it for good.
    path.write_bytes(save(dict(state), metadata={_DIGEST: _digest(state)}))


def read_own_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, on the CPU, held to its hash where it has one.

    Raises:
        DamagedWeightsError: no such file, not one of safetensors, or other bytes than were written.
    """
    try:
        with safe_open(path, framework="pt") as file:
            digest = (file.metadata() or {}).get(_DIGEST)
        state = load_file(path)
    # The reader raises its own error, ValueError or OSError, after what is damaged.
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise DamagedWeightsError(
            f"The weights file {path} is damaged or no safetensors file."
        ) from error
    if digest is not None and digest != _digest(state):
        raise DamagedWeightsError(
            f"The weights file {path} is damaged: it does not hold what was written."
        )
    return state


def _digest(state: Mapping[str, Tensor]) -> str:
    """Return a hash of tensors with their names."""
    digest = hashlib.sha256()
    for key in sorted(state):
        tensor = state[key].contiguous()
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a weights file by key, on the CPU.

    A ``.pth`` file may hold its ``state_dict`` under ``state_dict`` or ``model``; the ``module.``
    that ``DataParallel`` puts before every key is taken off.

    Args:
        path: a ``.safetensors`` file, or a ``.pth``, ``.pt`` or ``.ckpt`` file with a
            ``state_dict``.

    Raises:
        ModelError: no such file, another kind of file, a damaged one, or one that holds more than
            tensors (nothing in it is run).
    """
    if not path.is_file():
        raise ModelError(f"The weights file {path} does not exist or is not a file.")
    if path.suffix == ".safetensors":
        read = read_own_weights
    elif path.suffix in TORCH_SUFFIXES:
        read = _read_state_dict
    else:
        raise ModelError(
            f"The weights file {path} ends in '{path.suffix}'; a .safetensors file, or a .pth, "
            ".pt or .ckpt file with a state_dict, is needed."
        )
    try:
        with path.open("rb") as file:
            head = file.read(64).removeprefix(codecs.BOM_UTF8).lstrip()
    except OSError as error:
        raise ModelError(f"The weights file {path} cannot be read: {error.strerror}.") from error
    if not head:
        raise ModelError(f"The weights file {path} is empty: download it again.")
    for beginning, what in _IMPOSTORS.items():
        if head.startswith(beginning):
            raise ModelError(f"The weights file {path} {what}.")
    state = read(path)
    return {key.removeprefix(_PARALLEL_PREFIX): value for key, value in state.items()}


def load_weights(module: nn.Module, state: Mapping[str, Tensor], *, origin: str) -> None:
    """Copy ``state`` into ``module``; every key and shape has to fit.

    Float types are converted to the module's own (float16 files become float32 weights). Batch
    norm's batch counter may be missing: older and frozen weights have none, and only a momentum of
    None would read it.

    Args:
        module: what to fill; not touched when something does not fit.
        state: tensors by key.
        origin: where they come from, for messages.

    Raises:
        ModelError: as ``require_fit``.
    """
    own = module.state_dict()
    require_fit(own, state, origin=origin)
    module.load_state_dict({**own, **state})


def require_fit(own: Mapping[str, Tensor], state: Mapping[str, Tensor], *, origin: str) -> None:
    """Refuse tensors that do not fit a module's own, which may be on the meta device.

    Args:
        own: of the module.
        state: tensors by key.
        origin: where they come from, for messages.

    Raises:
        ModelError: a key is missing or not expected, or a tensor has another shape or kind.
    """
    missing = [key for key in own if key not in state and not key.endswith(_COUNTER)]
    if missing:
        raise ModelError(f"{origin}: no weights for {_some(missing)}; is it another model's file?")
    unexpected = [key for key in state if key not in own]
    if unexpected:
        raise ModelError(
            f"{origin}: the model has no place for {_some(unexpected)}; is it another model's file?"
        )
    for key in (key for key in own if key in state):
        found, needed = state[key], own[key]
        if found.shape != needed.shape:
            raise ModelError(
                f"{origin}: '{key}' has shape {tuple(found.shape)}, the model needs "
                f"{tuple(needed.shape)}; is it another model's file?"
            )
        if found.is_floating_point() != needed.is_floating_point():
            raise ModelError(f"{origin}: '{key}' holds {found.dtype}, not {needed.dtype}.")


def _read_state_dict(path: Path) -> dict[str, Tensor]:
    _refuse_packed(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    # A damaged pickle fails in as many ways as it has opcodes; all of them mean the same here.
    except Exception as error:
        raise ModelError(
            f"The weights file {path} is damaged, or holds code or Python objects beside tensors, "
            "which is never loaded. Save the model's state_dict() alone, best as .safetensors."
        ) from error
    wrapper = next(
        (
            key
            for key in WRAPPERS
            if isinstance(content, dict) and isinstance(content.get(key), dict)
        ),
        None,
    )
    state = content if wrapper is None else content[wrapper]
    if not isinstance(state, dict) or not state:
        raise ModelError(f"The weights file {path} holds no state_dict.")
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise ModelError(
                f"The weights file {path} is no state_dict: {key!r} holds "
                f"{type(value).__name__}, not a tensor."
            )
    return dict(state)


def _refuse_packed(path: Path) -> None:
    """Refuse an archive that unpacks to more than it has; torch never compresses.

    Raises:
        ModelError: it does.
    """
    try:
        if not zipfile.is_zipfile(path):
            return  # as torch wrote files before 1.6
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
    # The last is raised for versions and methods that zipfile does not know.
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError) as error:
        raise ModelError(f"The weights file {path} is a damaged archive ({error}).") from error
    if unpacked > path.stat().st_size:
        raise ModelError(
            f"The weights file {path} unpacks to {unpacked:,} bytes, more than it has: torch wrote "
            "no such file."
        )


def _some(keys: list[str]) -> str:
    """Return the first keys in quotation marks, and how many more there are."""
    shown = ", ".join(f"'{key}'" for key in keys[:3])
    return shown if len(keys) <= 3 else f"{shown} and {len(keys) - 3} more"
