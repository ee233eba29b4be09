"""Test the daemon on a disk that is really full: a small tmpfs, mounted in a name space of its own."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests.edge_agent.desk_box import Box
from tests.helpers import missing, wait_until

IN_OWN_MOUNT = (
    'mount -t tmpfs -o size=1200k tmpfs "$1/small" && exec "$2" -m tests.edge_agent.agent_process "$3"'
)
NAME_SPACE = ["unshare", "--user", "--map-root-user", "--mount"]


@pytest.fixture
def full_box(box: Box) -> Box:
    small = box.folder / "small"
    small.mkdir()
    probe = [*NAME_SPACE, "mount", "-t", "tmpfs", "tmpfs", str(small)]
    if shutil.which("unshare") is None or subprocess.run(probe, check=False, capture_output=True).returncode:
        missing("a mount name space", "allow unprivileged user name spaces")
    box.configure(data_dir="small/data")
    return box


def test_a_disk_that_is_really_full_never_stops_the_loop(full_box: Box) -> None:
    """Every frame is inspected, losses are counted and told; with room again examples are kept again."""
    box = full_box
    box.cloud.gives_grants = False
    config = str(box.folder / "agent.toml")
    box.run([*NAME_SPACE, "sh", "-c", IN_OWN_MOUNT, "sh", str(box.folder), sys.executable, config])
    box.feed(400)
    wait_until(lambda: box.reported("frames_inspected") == 400, 30, "every frame to be inspected")
    wait_until(lambda: "outbox.full" in str(box.reported("problem")), 10, "the full disk to be told")
    lost, waiting = box.reported("outbox_lost"), box.reported("outbox_waiting")
    assert isinstance(lost, int)
    assert isinstance(waiting, int)
    assert lost > 0
    assert lost + waiting == box.hard
    # Receipts make room, and everything that was kept arrives.
    box.cloud.gives_grants = True
    wait_until(lambda: box.reported("outbox_waiting") == 0, 30, "the outbox to be empty")
    assert len(box.cloud.catalog) == waiting
    box.feed(2)
    wait_until(lambda: len(box.cloud.catalog) == waiting + 1, 20, "the next example")
    assert box.reported("outbox_lost") == lost
    wait_until(lambda: box.reported("problem") == "", 20, "the problems to end")
    began = time.monotonic()
    assert box.signal(signal.SIGTERM) == 0
    assert time.monotonic() - began < 5
