"""From records to batches: which pictures, in which order, in which views.

A batch is a function of (records, rows, seed, epoch): the number of loader workers changes nothing.

Legend: B pictures in a batch, C labels, S size of a view.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Sampler
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from cpsd.config import ImageConfig
from cpsd.data.images import PictureError
from cpsd.data.loader_sockets import share_one_folder
from cpsd.data.lost_processes import end_with_parent
from cpsd.data.picture_dataset import Batch, Key, PartlyRead, PictureDataset
from cpsd.data.records import Records
from cpsd.data.views import PLAIN
from cpsd.errors import DataError
from cpsd.freed_memory import hand_back_freed_memory
from cpsd.seeds import derive_seed
from cpsd.shares import WHOLE, Share

Rows = Sequence[int] | NDArray[np.intp]
Unreadable = Callable[[int, PictureError], None]
"""Told the row of a picture that cannot be read, and why."""


class PictureLoader(DataLoader[Any]):
    """A ``DataLoader`` of a ``PictureDataset``: yields ``Batch``, raises ``DataError`` as it is.

    Its processes live from the first epoch to ``close``, or until nothing refers to the loader.
    """

    on_unreadable: Unreadable | None = None
    """Told of pictures that cannot be read, which are then left out; None has them raised."""

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        for loaded in super().__iter__():
            batch = self._readable(loaded) if isinstance(loaded, PartlyRead) else loaded
            if isinstance(batch, DataError):
                self.close()  # the error's traceback refers to the loader
                raise batch
            if batch is not None:
                yield batch

    def _get_iterator(self) -> Any:  # noqa: ANN401 - torch's own has no public name
        if self.num_workers == 0:
            return super()._get_iterator()
        hand_back_freed_memory()
        return _Processes(self)

    def _readable(self, loaded: PartlyRead) -> Batch | DataError | None:
        """Return what could be read, or the first error where nobody asks for the rest."""
        if self.on_unreadable is None:
            dataset = cast(PictureDataset, self.dataset)
            return dataset.located(*next(iter(loaded.faults.items())))
        for fault in loaded.faults.items():
            self.on_unreadable(*fault)
        return loaded.batch

    def close(self) -> None:
        """End the processes; another iteration starts new ones.

        Where something in a cycle of references holds the loader (an error's traceback, a trainer),
        closing saves time: ended by the garbage collector, the processes are not told so, and
        torch waits five seconds for each before it kills it.
        """
        if isinstance(self._iterator, _MultiProcessingDataLoaderIter):
            self._iterator._shutdown_workers()
        self._iterator = None


class _Processes(_MultiProcessingDataLoaderIter):
    """The processes of a loader."""

    def __del__(self) -> None:
        # Asked to end while it was made, it lacks what torch's own looks for, and would print that.
        with suppress(AttributeError):
            super().__del__()


class EpochSampler(Sampler[Key]):
    """All rows in an order of the epoch's own, each in the epoch's view, or a device's share of it.

    The order depends on (seed, epoch) alone, so everything that trains with one seed sees the same
    pictures in the same order. Lightning calls ``set_epoch`` before every epoch.

    Args:
        rows: rows of the records.
        seed: the run's seed.
        num_views: views there are of each picture; epoch e shows view e mod ``num_views``. None:
            one for each epoch.
        batch_size: pictures in a batch of all devices.
        share: the device's, of every batch. A last batch of a single picture is left out, because
            batch norm has no variance to learn from there (and refuses feature maps of 1 x 1), as
            is one that leaves a device without any. The order changes with the epoch, so these are
            other pictures each time.

    Example:
        >>> sampler = EpochSampler([3, 5, 8], seed=0, num_views=2)
        >>> sampler.set_epoch(3)
        >>> sorted(sampler)
        [(3, 1), (5, 1), (8, 1)]
    """

    def __init__(
        self,
        rows: Rows,
        *,
        seed: int,
        num_views: int | None,
        batch_size: int = 1,
        share: Share = WHOLE,
    ) -> None:
        self.rows = np.asarray(rows, dtype=np.intp)
        self.seed = seed
        self.num_views = num_views
        self.batch_size = batch_size
        self.share = share
        self.epoch = 0
        left = len(self.rows) % batch_size
        enough = max(min(2, batch_size), share.of)
        self.num_seen = len(self.rows) - (left if left < min(enough, len(self.rows)) else 0)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch (from 0) that the next iteration is of."""
        self.epoch = epoch

    def __len__(self) -> int:
        whole, left = divmod(self.num_seen, self.batch_size)
        return whole * len(self.share.take(range(self.batch_size))) + len(
            self.share.take(range(left))
        )

    def __iter__(self) -> Iterator[Key]:
        view_index = self.epoch if self.num_views is None else self.epoch % self.num_views
        generator = np.random.default_rng(derive_seed(self.seed, "order", self.epoch))
        order = generator.permutation(self.rows)[: self.num_seen].tolist()
        for start in range(0, len(order), self.batch_size):
            for row in self.share.take(order[start : start + self.batch_size]):
                yield row, view_index


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
    share: Share = WHOLE,
) -> PictureLoader:
    """Return the loader of ``rows`` for training, in the order and views of ``EpochSampler``.

    Args:
        records: the data set.
        rows: the rows to train on.
        config: size and augmentation.
        batch_size: pictures in a batch, of all devices together.
        seed: the run's seed, of order and views.
        view_seed: another seed of the views, where soft labels are stored for those.
        num_views: see ``EpochSampler``.
        workers: processes that load; 0 loads in this one.
        memory_share: most of the machine's memory for decoded pictures.
        pin_memory: put batches into page-locked memory, from where a GPU fetches them while it
            computes.
        share: of every batch, where several devices train; ``batch_size`` is a multiple of them.
    """
    order = EpochSampler(rows, seed=seed, num_views=num_views, batch_size=batch_size, share=share)
    return PictureLoader(
        PictureDataset(
            records,
            config,
            seed=seed if view_seed is None else view_seed,
            memory_share=memory_share,
        ),
        batch_size=batch_size // share.of,
        sampler=order,
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
    on_unreadable: Unreadable | None = None,
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
        on_unreadable: told the row of each picture that cannot be read, and why; it is left out.
            By default the first is an error.
    """
    loader = PictureLoader(
        PictureDataset(records, config, seed=seed, memory_share=memory_share),
        batch_size=batch_size,
        sampler=keys,
        pin_memory=pin_memory,
        **_worker_settings(workers),
    )
    loader.on_unreadable = on_unreadable
    return loader


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
    share_one_folder()
    return settings | {
        "persistent_workers": True,
        "worker_init_fn": end_with_parent,
        # On Linux a forked worker starts in milliseconds and shares the records, where a spawned
        # one imports torch again (seconds) and needs the user's script to be guarded by __main__.
        # Forking beside torch's threads is safe here: a worker computes on one thread (torch sees
        # to that) and never touches the accelerator. Elsewhere the platform's own way.
        "multiprocessing_context": "fork" if sys.platform == "linux" else None,
    }


def _as_it_is(batch: Batch | PartlyRead | DataError) -> Batch | PartlyRead | DataError:
    """Return the batch: ``PictureDataset.__getitems__`` has put it together."""
    return batch
