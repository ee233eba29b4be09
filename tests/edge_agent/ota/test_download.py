"""Test that a file arrives whole, as signed, over lines that break."""

from __future__ import annotations

import errno
import threading
import time
from pathlib import Path

import pytest

from edge_agent.ota.disk import Disk
from edge_agent.ota.download import Downloader
from edge_agent.ota.errors import Interrupted, OtaError, SourceAway, TargetRefused
from edge_agent.ota.server import MemoryServer
from edge_agent.ota.tuf_client import Target
from fleet_contracts.ids import sha256_of

CONTENT = bytes(range(256)) * 400
TARGET = Target("model.onnx", "targets/model.onnx", len(CONTENT), sha256_of(CONTENT))
GO = threading.Event()


def server(**how: object) -> MemoryServer:
    return MemoryServer({TARGET.path: CONTENT}, **how)  # type: ignore[arg-type]


def test_a_broken_download_goes_on_where_it_broke_off(tmp_path: Path) -> None:
    """What was read is kept; only the rest is asked for."""
    source = server(cut_after=40_000)
    downloader = Downloader(source, Disk())
    for _ in range(2):
        with pytest.raises(SourceAway):
            downloader.fetch(TARGET, tmp_path / "model.onnx", GO)
    assert source.cuts == 2
    assert not (tmp_path / "model.onnx").exists()
    downloader.fetch(TARGET, tmp_path / "model.onnx", GO)
    assert (tmp_path / "model.onnx").read_bytes() == CONTENT
    assert source.ranges == [0, 40_960, 81_920]
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_a_verified_file_is_not_asked_for_again(tmp_path: Path) -> None:
    """A second call is free."""
    source = server()
    for _ in range(2):
        Downloader(source, Disk()).fetch(TARGET, tmp_path / "model.onnx", GO)
    assert source.asked[TARGET.path] == 1


def test_an_altered_file_in_place_is_fetched_anew(tmp_path: Path) -> None:
    """The hash of what lies there counts, not its name."""
    (tmp_path / "model.onnx").write_bytes(CONTENT[:-1] + b"x")
    Downloader(server(), Disk()).fetch(TARGET, tmp_path / "model.onnx", GO)
    assert (tmp_path / "model.onnx").read_bytes() == CONTENT


@pytest.mark.parametrize("content", [CONTENT[:-1] + b"x", CONTENT[:-1], CONTENT + b"x", b""])
def test_another_file_is_thrown_away(tmp_path: Path, content: bytes) -> None:
    """Altered, short, long and empty files never get their name, and leave nothing to resume."""
    source = MemoryServer({TARGET.path: content})
    with pytest.raises(TargetRefused, match=TARGET.sha256):
        Downloader(source, Disk()).fetch(TARGET, tmp_path / "model.onnx", GO)
    assert list(tmp_path.iterdir()) == []


def test_an_endless_file_is_cut_off(tmp_path: Path) -> None:
    """No more than the signed length, and one piece, is written."""
    source = server(endless={TARGET.path})
    with pytest.raises(TargetRefused):
        Downloader(source, Disk()).fetch(TARGET, tmp_path / "model.onnx", GO)
    assert list(tmp_path.iterdir()) == []


def test_an_altered_part_is_found_at_the_end(tmp_path: Path) -> None:
    """What lies on the disk is verified, not what came over the line."""
    (tmp_path / f"{TARGET.sha256}.part").write_bytes(b"x" * 1000)
    downloader = Downloader(server(), Disk())
    with pytest.raises(TargetRefused):
        downloader.fetch(TARGET, tmp_path / "model.onnx", GO)
    downloader.fetch(TARGET, tmp_path / "model.onnx", GO)
    assert (tmp_path / "model.onnx").read_bytes() == CONTENT


def test_the_rate_is_limited(tmp_path: Path) -> None:
    """A download leaves the line to others."""
    began = time.monotonic()
    Downloader(server(), Disk(), bytes_per_s=len(CONTENT) * 4).fetch(TARGET, tmp_path / "model.onnx", GO)
    assert time.monotonic() - began >= 0.24


def test_stopping_puts_a_slow_download_down(tmp_path: Path) -> None:
    """The agent need not wait for a model to arrive; the rest is fetched another time."""
    stop = threading.Event()
    threading.Timer(0.1, stop.set).start()
    began = time.monotonic()
    with pytest.raises(Interrupted):
        Downloader(server(), Disk(), bytes_per_s=1000).fetch(TARGET, tmp_path / "model.onnx", stop)
    assert time.monotonic() - began < 3


class FullDisk(Disk):
    """Be full when a file is flushed."""

    fired = 0

    def sync(self, path: Path) -> None:
        self.fired += 1
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_told_and_its_room_given_back(tmp_path: Path) -> None:
    """The error names the folder; half a model does not take the room that examples need."""
    disk = FullDisk()
    with pytest.raises(OtaError, match="full disk"):
        Downloader(server(), disk).fetch(TARGET, tmp_path / "model.onnx", GO)
    assert disk.fired == 1
    assert list(tmp_path.iterdir()) == []
