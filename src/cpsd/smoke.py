"""Smoke form of a run: the same recipe on tiny pictures, few steps, random weights.

It goes through every stage, reader and head of the recipe on a CPU in about a minute, and says
nothing about how good the result would be.
"""

from dataclasses import replace
from pathlib import Path

from cpsd.addresses import is_address
from cpsd.config import DataConfig, RunConfig
from cpsd.data.smoke_data import SIZES, write_smoke_data
from cpsd.model_config import ModelConfig

_IMAGE_SIZE = 64  # two places a side of a backbone that halves five times
_BATCH_SIZE = 8
_WIDTH = 32  # of heads with tokens
_HEADS = 2


def smoke(config: RunConfig) -> RunConfig:
    """Return the smoke form of ``config``.

    Backbone, head, loss, optimizer and strategies stay; what costs time is made small. Data are
    those of ``config``, a few pictures of each split.
    """
    return replace(
        config,
        data=replace(config.data, limit=max(SIZES.values()), pack=None),
        image=replace(config.image, size=_IMAGE_SIZE),
        model=_small(config.model),
        # Four teachers and one label a part at least, so that two labels are enough.
        partition=replace(config.partition, parts=2, min_labels=1, starts=2),
        training=replace(
            config.training, epochs=1, batch_size=_BATCH_SIZE, accumulate=1, precision="32"
        ),
        teachers=replace(config.teachers, epochs=None),
        student=replace(config.student, epochs=None),
        distillation=replace(config.distillation, views=1),
        machine=replace(
            config.machine, accelerator="cpu", workers=0, inference_batch_size=_BATCH_SIZE
        ),
    )


def with_smoke_data(config: RunConfig, folder: Path) -> RunConfig:
    """Return ``config`` on made-up data of its format, which are written into ``folder``.

    The labels are others than the recipe's, so label embeddings are learned.

    Raises:
        DataError: the folder holds something else.
    """
    data = write_smoke_data(folder, config.data)
    return replace(config, data=data, model=replace(config.model, label_embeddings=None))


def data_are_there(data: DataConfig) -> bool:
    """Return whether the table, or the folder of another format, exists or is at an address."""
    place = data.table if data.format == "table" else data.root
    if place is not None and is_address(place):
        return True  # or a refusal that says why it cannot be reached
    if data.format == "table":
        return data.table is not None and Path(data.table).is_file()
    return data.root is not None and Path(data.root).is_dir()


def _small(model: ModelConfig) -> ModelConfig:
    """Return the network with random weights and narrow heads of the same depth."""
    return replace(
        model,
        weights="none",
        transformer=replace(
            model.transformer, width=_WIDTH, heads=_HEADS, head_width=_WIDTH, feedforward=_WIDTH
        ),
        query=replace(model.query, width=_WIDTH, heads=_HEADS, feedforward=_WIDTH),
        ml_decoder=replace(model.ml_decoder, width=_WIDTH, heads=_HEADS, feedforward=_WIDTH),
        gcn=replace(model.gcn, hidden=_WIDTH),
        ctran=replace(model.ctran, width=_WIDTH, heads=_HEADS, feedforward=_WIDTH),
    )
