"""From records to batches: which pictures, in which order, in which views.

A batch is a function of (records, rows, seed, epoch): the number of loader workers changes nothing.

Legend: B pictures in a batch, C labels, S size of a view.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from cpsd.config import ImageConfig
from cpsd.data.bad_pictures import Decode
from cpsd.data.kept_pixels import kept_pixels
from cpsd.data.pixels import Pixels, read_pixels
from cpsd.data.records import Records
from cpsd.data.views import PLAIN, view
from cpsd.errors import DataError
from cpsd.seeds import derive_seed

Rows = Sequence[int] | NDArray[np.intp]
Key = tuple[int, int]
"""A picture in a view: (row of the records, view index)."""


class Batch(NamedTuple):
    """Pictures, what is known of them, and who they are."""

    images: Tensor
    """``(B, 3, S, S)`` uint8, channels last in memory."""
    targets: Tensor
    """``(B, C)`` int8; 1 present, 0 absent, -1 unknown."""
    rows: Tensor
    """``(B,)`` int64, rows of the records: predictions are put back in order by them."""


class PictureDataset(Dataset[tuple[Tensor, int]]):
    """The pictures of the records, by (row, view index).

    Args:
        records: the data set.
        config: size and augmentation of the views.
        seed: the run's seed, of the views.
        memory_share: most of the machine's memory for decoded pictures; see ``kept_pixels``.

    Raises:
        DataError: the pack of ``records`` holds pictures of another size.
    """

    def __init__(
        self, records: Records, config: ImageConfig, *, seed: int, memory_share: float = 0.0
    ) -> None:
        self.records = records
        self.config = config
        self.seed = seed
        if records.packed is not None:
            records.packed.require(config.size)
            memory_share = 0.0
        self._kept = kept_pixels(records, config.size, memory_share=memory_share)
        # The records' own memory: a copy for each loader would double the greatest part of them.
        targets = records.targets
        self._targets = torch.from_numpy(targets if targets.flags.writeable else targets.copy())

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: Key) -> tuple[Tensor, int]:
        """Return a view ``(3, S, S)`` uint8 of a picture, and its row.

        Raises:
            DataError: the picture cannot be read.
        """
        return torch.from_numpy(np.array(self._view(key))).permute(2, 0, 1), key[0]

    def __getitems__(self, keys: Sequence[Key]) -> Batch | DataError:
        """Return the batch of ``keys``, or what is wrong with the first that cannot be read.

        Returned, not raised: torch would hand on an exception of a worker with the worker's whole
        traceback as its message. ``PictureLoader`` raises it.
        """
        size = self.config.size
        images_BHWC = torch.empty((len(keys), size, size, 3), dtype=torch.uint8)
        places = images_BHWC.numpy()
        try:
            for i, key in enumerate(keys):
                places[i] = self._view(key)
        except DataError as error:
            return error
        rows_B = torch.tensor([row for row, _ in keys])
        return Batch(images_BHWC.permute(0, 3, 1, 2), self._targets[rows_B], rows_B)

    def _view(self, key: Key) -> Pixels:
        """Return a view ``(S, S, 3)``, to be copied: it may be another's memory."""
        row, view_index = key
        pixels = self._pixels(row)
        return view(pixels, view_index, seed=self.seed, image_index=row, config=self.config)

    def _pixels(self, row: int) -> Pixels:
        """Return the pixels ``(S, S, 3)`` of a picture, not to be written to."""
        if self.records.packed is not None:
            return self.records.packed(row)
        kept = None if self._kept is None else self._kept.get(row)
        if kept is not None:
            return kept
        try:
            pixels = read_pixels(self.records.image_path(row), self.config.size)
        except DataError as error:
            raise DataError(f"{self.records.origins[row]}: {error}") from error
        if self._kept is not None:
            self._kept.keep(row, pixels)
        return pixels

    def __getstate__(self) -> dict[str, Any]:
        """Leave the kept pixels behind: only a forked process shares them."""
        return {**self.__dict__, "_kept": None}


class PictureLoader(DataLoader[Any]):
    """A ``DataLoader`` of a ``PictureDataset``: yields ``Batch``, raises ``DataError`` as it is.

    Its processes live from the first epoch to ``close``, or until nothing refers to the loader.
    """

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        for batch in super().__iter__():
            if isinstance(batch, DataError):
                self.close()  # the error's traceback refers to the loader
                raise batch
            yield batch

    def close(self) -> None:
        """End the processes; another iteration starts new ones.

        Where something in a cycle of references holds the loader (an error's traceback, a trainer),
        closing saves time: ended by the garbage collector, the processes are not told so, and
        torch waits five seconds for each before it kills it.
        """
        if isinstance(self._iterator, _MultiProcessingDataLoaderIter):
            self._iterator._shutdown_workers()
        self._iterator = None


def keeping_decoder(size: int, *, memory_share: float) -> Callable[[Records], Decode]:
    """Return what makes of records what decodes a picture as a loader will, and keeps its pixels.

    Args:
        size: S.
        memory_share: most of the machine's memory for decoded pictures; see ``kept_pixels``.
    """

    def decoder(records: Records) -> Decode:
        kept = kept_pixels(records, size, memory_share=memory_share)

        def decode(row: int) -> None:
            if kept is None or kept.get(row) is None:
                pixels = read_pixels(records.image_path(row), size)
                if kept is not None:
                    kept.keep(row, pixels)

        return decode

    return decoder


class EpochSampler(Sampler[Key]):
    """All rows in an order of the epoch's own, each in the epoch's view.

    The order depends on (seed, epoch) alone, so everything that trains with one seed sees the same
    pictures in the same order. Lightning calls ``set_epoch`` before every epoch.

    Args:
        rows: rows of the records.
        seed: the run's seed.
        num_views: views there are of each picture; epoch e shows view e mod ``num_views``. None:
            one for each epoch.

    Example:
        >>> sampler = EpochSampler([3, 5, 8], seed=0, num_views=2)
        >>> sampler.set_epoch(3)
        >>> sorted(sampler)
        [(3, 1), (5, 1), (8, 1)]
    """

    def __init__(self, rows: Rows, *, seed: int, num_views: int | None) -> None:
        self.rows = np.asarray(rows, dtype=np.intp)
        self.seed = seed
        self.num_views = num_views
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch (from 0) that the next iteration is of."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Key]:
        view_index = self.epoch if self.num_views is None else self.epoch % self.num_views
        generator = np.random.default_rng(derive_seed(self.seed, "order", self.epoch))
        for row in generator.permutation(self.rows):
            yield int(row), view_index


def training_loader(
    records: Records,
    rows: Rows,
    config: ImageConfig,
    *,
    batch_size: int,
    seed: int,
    view_seed: int | None = None,
    num_views: int | None,
    workers: int,
    memory_share: float = 0.0,
    pin_memory: bool = False,
) -> PictureLoader:
    """Return the loader of ``rows`` for training, in the order and views of ``EpochSampler``.

    Every picture is seen in every epoch, with one exception: a last batch that would hold a single
    picture is left out, because batch norm has no variance to learn from there (and refuses feature
    maps of 1 x 1). The order changes with the epoch, so it is another picture each time.

    Args:
        records: the data set.
        rows: the rows to train on.
        config: size and augmentation.
        batch_size: pictures in a batch.
        seed: the run's seed, of order and views.
        view_seed: another seed of the views, where soft labels are stored for those.
        num_views: see ``EpochSampler``.
        workers: processes that load; 0 loads in this one.
        memory_share: most of the machine's memory for decoded pictures.
        pin_memory: put batches into page-locked memory, from where a GPU fetches them while it
            computes.
    """
    single_left = len(rows) % batch_size == 1 and 1 < batch_size < len(rows)
    return PictureLoader(
        PictureDataset(
            records,
            config,
            seed=seed if view_seed is None else view_seed,
            memory_share=memory_share,
        ),
        batch_size=batch_size,
        sampler=EpochSampler(rows, seed=seed, num_views=num_views),
        drop_last=single_left,
        pin_memory=pin_memory,
        **_worker_settings(workers),
    )


def plain(rows: Rows) -> list[Key]:
    """Return the keys of ``rows`` without augmentation.

    Example:
        >>> plain([3, 5])
        [(3, -1), (5, -1)]
    """
    return [(int(row), PLAIN) for row in rows]


def inference_loader(
    records: Records,
    keys: Sequence[Key],
    config: ImageConfig,
    *,
    batch_size: int,
    seed: int,
    workers: int,
    memory_share: float = 0.0,
    pin_memory: bool = False,
) -> PictureLoader:
    """Return the loader of the pictures and views ``keys``, in their order.

    Args:
        records: the data set.
        keys: what to load: (row, view index), see ``plain``.
        config: size and augmentation.
        batch_size: pictures in a batch.
        seed: the run's seed, of the views.
        workers: processes that load; 0 loads in this one.
        memory_share: most of the machine's memory for decoded pictures.
        pin_memory: put batches into page-locked memory, from where a GPU fetches them while it
            computes.
    """
    return PictureLoader(
        PictureDataset(records, config, seed=seed, memory_share=memory_share),
        batch_size=batch_size,
        sampler=keys,
        pin_memory=pin_memory,
        **_worker_settings(workers),
    )


def _worker_settings(workers: int) -> dict[str, Any]:
    """Return the settings of ``DataLoader`` for its processes."""
    settings = {
        "num_workers": workers,
        "collate_fn": _as_it_is,
        # Only so that the loader, which draws a seed for its workers that nothing here reads, does
        # not draw it from torch's global generator.
        "generator": torch.Generator(),
    }
    if workers == 0:
        return settings
    return settings | {
        "persistent_workers": True,
        # On Linux a forked worker starts in milliseconds and shares the records, where a spawned
        # one imports torch again (seconds) and needs the user's script to be guarded by __main__.
        # Forking beside torch's threads is safe here: a worker computes on one thread (torch sees
        # to that) and never touches the accelerator. Elsewhere the platform's own way.
        "multiprocessing_context": "fork" if sys.platform == "linux" else None,
    }


def _as_it_is(batch: Batch | DataError) -> Batch | DataError:
    """Return the batch: ``PictureDataset.__getitems__`` has put it together."""
    return batch
