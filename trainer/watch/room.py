"""Measure what this machine has room for before a cure is chosen."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from trainer.dataset import INDEX_FILE
from trainer.watch.cure import Limits
from trainer.watch.sample import Sample

_CHANNELS = 3
_DECODED_PER_ENCODED = 12
"""How many times larger than its file an image is once decoded; photographs in JPEG come to 8 to 15."""
_SHARED = Path("/dev/shm")  # noqa: S108 - asked for its free space alone


class Room:
    """Know a dataset's size and measure what is free.

    Args:
        dataset: folder with the index.
        cores: cores this process may use.
        processes: how many train together and share the machine; each has loaders and a cache of its own.
    """

    def __init__(self, dataset: Path, cores: float, processes: int = 1) -> None:
        self._dataset = dataset
        self._cores = cores
        self._processes = processes
        self._size: tuple[int, int] | None = None

    def limits(self, sample: Sample, *, image_size: int, batch: int) -> Limits:
        """Return the limits as they are now.

        Args:
            sample: the newest look at the machine.
            image_size: side of the square images trained on, in pixels.
            batch: images a batch, over all processes.
        """
        images, encoded = self._sizes()
        image_bytes = image_size * image_size * _CHANNELS
        shared = shutil.disk_usage(_SHARED).free if _SHARED.is_dir() else sample.host.free_bytes
        card = sample.gpu
        needed = 0 if card is None else card.used_bytes if card.needed_bytes is None else card.needed_bytes
        return Limits(
            cores=self._cores, host_free_bytes=sample.host.free_bytes // self._processes,
            shared_free_bytes=shared // self._processes,
            disk_free_bytes=shutil.disk_usage(self._dataset).free, dataset_ram_bytes=images * image_bytes,
            dataset_disk_bytes=encoded * _DECODED_PER_ENCODED,
            batch_bytes=batch * image_bytes // self._processes,
            gpu_needed_bytes=needed, gpu_limit_bytes=(card.limit_bytes or card.total_bytes) if card else 0,
        )  # fmt: skip

    def _sizes(self) -> tuple[int, int]:
        """Return the number of training images and the bytes of their files; they do not change in a run."""
        if self._size is None:
            rows = json.loads((self._dataset / INDEX_FILE).read_text())["items"]
            files = [self._dataset / row["file"] for row in rows if row["split"] == "train"]
            self._size = len(files), sum(file.stat().st_size for file in files if file.is_file())
        return self._size
