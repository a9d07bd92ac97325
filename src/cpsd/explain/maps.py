"""Label maps: which places of a picture speak for a label, by Grad-CAM or by attention.

Shapes: B images, P pairs of image and label, L labels, h x w places of a feature map.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from captum.attr import LayerGradCam
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate

from cpsd.computing import computing, device_of
from cpsd.config import RunConfig
from cpsd.data.loading import inference_loader, plain
from cpsd.data.records import Records
from cpsd.evaluation.predictions import eval_mode
from cpsd.explain.layers import explained_layer, with_channels_second
from cpsd.memory import plain_inference_memory
from cpsd.models.ensemble import MeanPredictor, TeacherEnsemble
from cpsd.models.heads.place_attention import Attending, record_place_attention
from cpsd.training.soft_label_writing import Progress

Maps = NDArray[np.float32]
Method = Literal["grad-cam", "attention"]
MOST_PIXELS = 16 * 448**2
"""Pixels of which gradients are computed at once: they take a training's memory, not prediction's,
so that large pictures are fewer at a time than ``inference_batch_size``."""
METHOD_NAMES: dict[Method, str] = {"grad-cam": "Grad-CAM", "attention": "attention"}


@dataclass(frozen=True)
class Pairs:
    """Pairs of picture and label.

    Args:
        images: ``(B, 3, H, W)`` in [0, 1].
        rows: P rows of ``images``.
        columns: P columns of the predictor's logits.
    """

    images: Tensor
    rows: tuple[int, ...]
    columns: tuple[int, ...]


def label_maps(
    predictor: nn.Module,
    image_3HW: Tensor,
    columns: Sequence[int],
    *,
    method: Method | None = None,
    batch_size: int = 16,
) -> Maps:
    """Return where ``predictor`` looks in one picture for each label, ``(L, h, w)``.

    Args:
        predictor: images (B, 3, H, W) in [0, 1] to logits (B, C).
        image_3HW: the picture.
        columns: L columns of its logits.
        method: as in ``pair_maps``.
        batch_size: as in ``pair_maps``.

    Raises:
        ModelError: as ``pair_maps``.
    """
    pairs = Pairs(image_3HW[None], (0,) * len(columns), tuple(columns))
    return pair_maps(predictor, pairs, method=method, batch_size=batch_size)


def pair_maps(
    predictor: nn.Module,
    pairs: Pairs,
    *,
    method: Method | None = None,
    batch_size: int = 16,
) -> Maps:
    """Return a map for each pair of picture and label, ``(P, h, w)``, no value negative.

    Grad-CAM (Selvaraju et al., ICCV 2017, equations 1 and 2), computed by captum: the channels of
    a feature map (``explained_layer``), each weighted by the mean of the logit's gradient. Places
    that speak against the label are 0. Attention: what share of its attention the label gives to
    each place, in the head's ordinary forward pass.

    In a teacher ensemble the teacher that has the label answers for it. The map of a mean is the
    mean of its predictors' maps, by their shares, as the logit is.

    Args:
        predictor: images (B, 3, H, W) in [0, 1] to logits (B, C); on the device of ``pairs``.
        pairs: the pictures, and which label is asked of which; at least one.
        method: by default attention where every network in ``predictor`` has a head whose labels
            attend to places, and Grad-CAM elsewhere.
        batch_size: pairs computed at once; changes no result.

    Raises:
        ModelError: a network has no feature map for Grad-CAM or no attention, or memory ran out.
    """
    method = method or explanation_method(predictor)
    with eval_mode(predictor):
        maps_Phw = _maps(predictor, pairs, method, batch_size)
    found: Maps = maps_Phw.clamp(min=0).float().cpu().numpy()
    return found


def record_maps(
    predictor: nn.Module,
    records: Records,
    pairs: Sequence[tuple[int, int]],
    config: RunConfig,
    *,
    progress: Progress = lambda done, total: None,
) -> Maps:
    """Return the maps ``(P, h, w)`` of pictures of the records.

    Args:
        predictor: over the labels of ``records``; moved to the device that ``config`` names.
        records: the data set.
        pairs: P rows and columns of its targets; at least one.
        config: its ``image`` and ``machine`` are read.
        progress: told how many pictures of how many are done.

    Raises:
        DataError: a picture cannot be read.
        ModelError: as ``pair_maps``.
    """
    places: dict[int, list[int]] = {}
    for place, (row, _) in enumerate(pairs):
        places.setdefault(row, []).append(place)
    device, size = device_of(config), config.machine.inference_batch_size
    keys = plain(list(places))
    at_once = min(size, max(MOST_PIXELS // config.image.size**2, 1))
    loader = inference_loader(
        records, keys, config.image, batch_size=size, seed=config.seed, workers=0
    )
    predictor.to(device)
    done, maps, order = 0, list[Maps](), list[int]()
    with computing(config):
        for batch in loader:
            images = batch.images.to(device).float().div_(255)
            own = [(i, place) for i, row in enumerate(batch.rows.tolist()) for place in places[row]]
            columns = tuple(pairs[place][1] for _, place in own)
            asked = Pairs(images, tuple(i for i, _ in own), columns)
            maps.append(pair_maps(predictor, asked, batch_size=at_once))
            order += [place for _, place in own]
            done += len(images)
            progress(done, len(places))
    found: Maps = np.concatenate(maps)[np.argsort(order)]
    return found


def explanation_method(predictor: nn.Module) -> Method:
    """Return how ``predictor`` is explained where nothing else is asked for."""
    attends = [
        sum(isinstance(module, Attending) for module in network.modules()) == 1
        for network in _networks(predictor)
    ]
    return "attention" if all(attends) else "grad-cam"


def _networks(predictor: nn.Module) -> Iterator[nn.Module]:
    """Yield the networks that a predictor is made of."""
    if isinstance(predictor, TeacherEnsemble):
        members: nn.ModuleList | tuple[()] = predictor.teachers
    else:
        members = predictor.predictors if isinstance(predictor, MeanPredictor) else ()
    for member in members:
        yield from _networks(member)
    if not members:
        yield predictor


def _maps(predictor: nn.Module, pairs: Pairs, method: Method, batch_size: int) -> Tensor:
    """Return maps ``(P, h, w)``, negative where a place speaks against the label."""
    if isinstance(predictor, TeacherEnsemble):
        return _ensemble_maps(predictor, pairs, method, batch_size)
    if isinstance(predictor, MeanPredictor):
        members = [_maps(member, pairs, method, batch_size) for member in predictor.predictors]
        shares = zip(predictor.shares, _on_one_grid(members), strict=True)
        return torch.stack([share * maps_Phw for share, maps_Phw in shares]).sum(dim=0)
    if method == "attention":
        return _attention(predictor, pairs, batch_size)
    return _grad_cam(predictor, pairs, batch_size)


def _ensemble_maps(
    ensemble: TeacherEnsemble, pairs: Pairs, method: Method, batch_size: int
) -> Tensor:
    """Return the maps of the teachers that have the labels."""
    order: list[int] = []
    members: list[Tensor] = []
    for part, teacher in zip(ensemble.partition.parts, ensemble.teachers, strict=True):
        own = [p for p, column in enumerate(pairs.columns) if column in part]
        if own:
            rows = tuple(pairs.rows[p] for p in own)
            columns = tuple(part.index(pairs.columns[p]) for p in own)
            part_pairs = Pairs(pairs.images, rows, columns)
            members.append(_maps(teacher, part_pairs, method, batch_size))
            order += own
    return torch.cat(_on_one_grid(members))[torch.tensor(order).argsort()]


def _attention(network: nn.Module, pairs: Pairs, batch_size: int) -> Tensor:
    with torch.no_grad(), record_place_attention(network) as maps:
        for images in torch.split(pairs.images, batch_size):
            with plain_inference_memory(len(images)):
                network(images)
    return torch.cat(maps)[list(pairs.rows), list(pairs.columns)]


def _grad_cam(network: nn.Module, pairs: Pairs, batch_size: int) -> Tensor:
    maps: list[Tensor] = []
    with with_channels_second(network, explained_layer(network, pairs.images)) as layer:
        grad_cam = LayerGradCam(network, layer)
        for start in range(0, len(pairs.rows), batch_size):
            rows = list(pairs.rows[start : start + batch_size])
            columns = list(pairs.columns[start : start + batch_size])
            # With a gradient to the picture there is one to the layer, whatever is frozen.
            images = pairs.images[rows].detach().requires_grad_()
            with plain_inference_memory(len(rows)):
                maps_P1hw: Tensor = grad_cam.attribute(images, target=columns)
            maps.append(maps_P1hw.detach()[:, 0])
    return torch.cat(maps)


def _on_one_grid(members: Sequence[Tensor]) -> list[Tensor]:
    """Return maps ``(P, h, w)`` of several networks on the finest of their grids."""
    grid = max((tuple(maps_Phw.shape[1:]) for maps_Phw in members), key=min)
    return [
        maps_Phw
        if tuple(maps_Phw.shape[1:]) == grid
        else interpolate(maps_Phw[:, None], size=grid, mode="bilinear")[:, 0]
        for maps_Phw in members
    ]
