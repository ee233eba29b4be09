"""Load batches epoch by epoch with processes that live on from one epoch to the next.

ultralytics' endless loader, with an order that can begin in the middle of an epoch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import Sampler
from ultralytics.data.build import InfiniteDataLoader

from trainer.ultralytics_backend import environment
from trainer.ultralytics_backend.order import Pick, Share, batches_of, picks_of

_AHEAD = 4
"""Batches that each worker process has ready."""


class EpochOrder(Sampler[Pick]):
    """Yield one epoch's picks at each pass, this process's share of them."""

    def __init__(self, images: int, seed: int, share: Share) -> None:
        self.images = images
        self.seed = seed
        self.share = share
        self.epoch = 0
        self.done = 0

    def __iter__(self) -> Iterator[Pick]:
        # Worker processes ask ahead, past the epoch's end: the next pass is the next epoch, all of it.
        epoch, done = self.epoch, self.done
        self.epoch, self.done = epoch + 1, 0
        yield from picks_of(self.images, seed=self.seed, epoch=epoch, done=done, share=self.share)

    def __len__(self) -> int:
        return (self.images + self.share.world - 1) // self.share.world


class EpochLoader(InfiniteDataLoader):
    """Yield the batches of the epoch it was told to begin.

    Args:
        dataset: what to load from; takes `Pick`s.
        share: batch and part of this process.
        seed: of the order.
        workers: processes; 0 loads in this one.
        pinned: whether batches are put where a GPU can fetch them by itself.
    """

    def __init__(self, dataset: Any, share: Share, *, seed: int, workers: int, pinned: bool) -> None:
        generator = torch.Generator()
        generator.manual_seed(seed & 0x7FFF_FFFF)
        super().__init__(
            dataset=dataset, batch_size=share.batch // share.world, num_workers=workers,
            sampler=EpochOrder(len(dataset), seed, share), prefetch_factor=_AHEAD if workers else None,
            pin_memory=pinned, collate_fn=dataset.collate_fn, worker_init_fn=_begin_worker,
            generator=generator,
        )  # fmt: skip
        self._left = 0
        self._epoch = 0
        self._follows: tuple[int, int] | None = None

    def begin(self, epoch: int, done: int) -> None:
        """Make the next iteration that epoch's, from image `done` of its order on."""
        if self._follows != (epoch, done):
            self.reset()
            self.sampler.epoch, self.sampler.done = epoch, done
        self._left = batches_of(self.sampler.images, done=done, share=self.sampler.share)
        self._epoch = epoch
        self._follows = None

    def reset(self) -> None:
        """Forget what was asked ahead; the next epoch that begins starts its processes anew."""
        super().reset()
        self._follows = None

    def __iter__(self) -> Iterator[Any]:
        if self.iterator is None:
            self.iterator: Any = self._get_iterator()
        for _ in range(self._left):
            yield next(self.iterator)
        # Broken off, it follows nothing: what was asked ahead is another epoch's rest.
        self._follows = (self._epoch + 1, 0)


def usable_workers(asked: int, batches: int) -> int:
    """Return how many processes load: no more than processors or batches, and none for a single batch."""
    return min(asked, len(os.sched_getaffinity(0)), batches if batches > 1 else 0)


def _begin_worker(_number: int) -> None:
    environment.die_with_parent(os.getppid())
