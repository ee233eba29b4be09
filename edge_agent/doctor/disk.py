"""Check the disk under `data_dir`: space, limits, whether and how fast it can be written, SD card or not."""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from edge_agent.doctor.context import Patient
from edge_agent.doctor.finding import Finding

MEGABYTE = 1_000_000
FSYNCS = 8
SLOW_FSYNC_MS = 100.0
BLOCK_DEVICES = Path("/sys/dev/block")


class DiskCheck:
    """Look at the disk the agent's data lies on."""

    name = "disk"

    def __init__(self, patient: Patient) -> None:
        self._config = patient.config

    def check(self) -> Iterator[Finding]:
        """Give space and limits, then what writing costs."""
        folder = _existing(self._config.data_dir)
        usage = shutil.disk_usage(folder)
        yield from self._space(usage.free, usage.total)
        yield from self._writing(folder)
        if is_sd_card(folder):
            yield Finding(
                "warn",
                self.name,
                f"{folder} lies on an SD card",
                "Cards wear out and lose power badly: move data_dir to an NVMe or USB disk.",
            )

    def _space(self, free: int, total: int) -> Iterator[Finding]:
        outbox = self._config.outbox
        words = f"{free / MEGABYTE:.0f} MB of {total / MEGABYTE:.0f} MB free under {self._config.data_dir}"
        if free < outbox.free_floor_mb * MEGABYTE:
            yield Finding(
                "fail",
                self.name,
                f"{words}, below outbox.free_floor_mb = {outbox.free_floor_mb:g}: no example is kept",
                "Free some space, or lower outbox.free_floor_mb.",
            )
        elif free < (outbox.free_floor_mb + outbox.quota_mb) * MEGABYTE:
            yield Finding(
                "warn",
                self.name,
                f"{words}: outbox.quota_mb = {outbox.quota_mb:g} does not fit above the floor",
                "Nothing breaks, but fewer days offline fit than the quota says: free some space.",
            )
        else:
            yield Finding("ok", self.name, words)

    def _writing(self, folder: Path) -> Iterator[Finding]:
        try:
            slowest, median = fsync_ms(folder)
        except OSError as error:
            yield Finding(
                "fail",
                self.name,
                f"{folder} cannot be written: {error.strerror}",
                "Give it to the agent's user (chown -R whetstone), or mount it for writing.",
            )
            return
        words = f"an fsync takes {median:.1f} ms, the slowest of {FSYNCS} took {slowest:.1f} ms"
        if median > SLOW_FSYNC_MS:
            now = "Examples may be lost on a fast line when this is slow; use another disk."
            yield Finding("warn", self.name, words, now)
        else:
            yield Finding("ok", self.name, words)


def fsync_ms(folder: Path) -> tuple[float, float]:
    """Return the slowest and the median time to make 64 kB durable.

    Raises:
        OSError: the folder cannot be written.
    """
    times = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(FSYNCS):
            file.write(os.urandom(65536))
            began = time.monotonic()
            file.flush()
            os.fsync(file.fileno())
            times.append((time.monotonic() - began) * 1000)
    return max(times), statistics.median(times)


def is_sd_card(folder: Path, devices: Path = BLOCK_DEVICES) -> bool:
    """Tell whether a folder lies on an SD card; soldered eMMC says MMC of itself and is none."""
    number = folder.stat().st_dev
    with suppress(OSError):
        device = (devices / f"{os.major(number)}:{os.minor(number)}").resolve(strict=True)
        # A partition's folder lies within its disk's.
        for place in (device, device.parent):
            with suppress(OSError):
                return (place / "device" / "type").read_text(encoding="utf-8").strip() == "SD"
    return False


def _existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists."""
    return next((one for one in (folder, *folder.parents) if one.exists()), Path("/"))
