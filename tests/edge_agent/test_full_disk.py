"""Test the daemon on a disk that is really full: a small tmpfs, mounted in a name space of its own."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time

import pytest

from fleet_contracts.ids import sample_id_of
from tests.edge_agent.desk_box import Box
from tests.helpers import missing, wait_until

IN_OWN_MOUNT = (
    'mount -t tmpfs -o size=1200k tmpfs "$1/small" && exec "$2" -m tests.edge_agent.agent_process "$3"'
)
START_AGAIN_WHEN_FULL = """
mount -t tmpfs -o size=1200k tmpfs "$1/small" && "$2" -m tests.edge_agent.agent_process "$3"
cat /dev/zero > "$1/small/filling"
echo disk-is-full
while [ ! -e "$1/go" ]; do sleep 0.1; done
exec "$2" -m tests.edge_agent.agent_process "$3"
"""
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


def test_an_agent_starts_on_a_disk_that_is_really_full(full_box: Box) -> None:
    """Inspecting goes on without progress, what was kept before is sent, and the box says why."""
    box = full_box
    box.configure("idle_exit_s = 0.5", data_dir="small/data")
    box.cloud.gives_grants = False
    box.feed(20)
    kept = {sample_id_of(path.read_bytes()) for path in sorted(box.frames.iterdir())[::2]}
    config = str(box.folder / "agent.toml")
    box.run([*NAME_SPACE, "sh", "-c", START_AGAIN_WHEN_FULL, "sh", str(box.folder), sys.executable, config])
    wait_until(lambda: "disk-is-full" in box.log(), 40, "the first agent to end and the disk to be filled")
    assert not box.cloud.catalog
    box.configure(data_dir="small/data")
    box.cloud.gives_grants = True
    box.feed(6)
    (box.folder / "go").touch()
    wait_until(lambda: "outbox.in-memory" in box.log(), 20, "the full disk to be noticed")
    wait_until(lambda: kept <= set(box.cloud.catalog), 30, "everything kept before to arrive")
    wait_until(lambda: box.reported("frames_inspected") == 26, 30, "every frame to be inspected")
    assert "outbox.in-memory" in str(box.reported("problem"))
    assert box.signal(signal.SIGTERM) == 0
