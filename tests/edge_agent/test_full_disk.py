"""Test the daemon on a disk that is really full: a small tmpfs, mounted in a name space of its own."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time

import pytest

from fleet_contracts.ids import sample_id_of
from tests.edge_agent.builders import jpeg, put_image
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
    wait_until(lambda: "outbox.full" in box.log(), 10, "the full disk to be told")
    wait_until(lambda: box.accounted() == box.hard, 10, "every example to be kept or counted")
    lost, waiting = box.reported("outbox_lost"), box.reported("outbox_waiting")
    assert isinstance(lost, int)
    assert isinstance(waiting, int)
    assert lost > 0
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
    box.configure({"idle_exit_s": 0.5}, data_dir="small/data")
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


FULL_OF_OTHERS = """
mount -t tmpfs -o size=1500k tmpfs "$1/small" || exit 9
head -c 1000000 /dev/zero > "$1/small/ballast"
"$2" -m tests.edge_agent.agent_process "$3" &
agent=$!
trap 'kill -TERM $agent' TERM
while [ ! -e "$1/room" ]; do sleep 0.05; done
rm "$1/small/ballast" && touch "$1/emptied"
while kill -0 $agent 2>/dev/null; do wait $agent; code=$?; done
exit $code
"""


def feed(box: Box, first: int, count: int, *, dark: bool) -> set[str]:
    """Put dark pictures, which are worth 1, or light ones, which are kept by chance and worth 0.1."""
    names = set()
    for number in range(first, first + count):
        content = jpeg((number % 50) + (0 if dark else 150)) + number.to_bytes(4, "big")
        put_image(box.frames, f"part-{number:05d}__0.jpg", content)
        names.add(sample_id_of(content))
    return names


def evicted(box: Box) -> int:
    count = box.reported("outbox_evicted")
    return count if isinstance(count, int) else 0


def test_on_a_disk_that_is_really_full_the_least_valuable_goes_first(full_box: Box) -> None:
    """Valuable examples take the places of the others; each loss is counted; with room again all is kept."""
    box = full_box
    config = box.configure(data_dir="small/data")
    config.write_text(config.read_text().replace("random_share = 0.0", "random_share = 1.0"))
    box.cloud.gives_grants = False
    box.run([*NAME_SPACE, "sh", "-c", FULL_OF_OTHERS, "sh", str(box.folder), sys.executable, str(config)])
    light = feed(box, 0, 200, dark=False)
    wait_until(lambda: box.reported("frames_inspected") == 200, 30, "every frame to be inspected")
    wait_until(lambda: "outbox.full" in box.log(), 10, "the full disk to be told")
    wait_until(lambda: box.accounted() == 200, 10, "every example to be kept or counted")
    refused = box.reported("outbox_lost")
    assert isinstance(refused, int)
    assert refused > 0
    assert box.reported("outbox_evicted") == 0
    # The more valuable ones find their places, and the loop goes on.
    dark = feed(box, 200, 10, dark=True)
    wait_until(lambda: box.reported("frames_inspected") == 210, 30, "every frame to be inspected")
    wait_until(lambda: box.accounted() == 210, 10, "every example to be kept or counted")
    lost, waiting = box.reported("outbox_lost"), box.reported("outbox_waiting")
    assert isinstance(waiting, int)
    assert lost == refused + evicted(box)
    assert evicted(box) > 0
    # With space again, the next ones are kept beside all others.
    (box.folder / "room").touch()
    wait_until((box.folder / "emptied").exists, 10, "room")
    more = feed(box, 210, 20, dark=False)
    wait_until(lambda: box.reported("outbox_waiting") == waiting + 20, 20, "the next ones to be kept")
    wait_until(lambda: box.reported("problem") == "", 20, "the problems to end")
    box.cloud.gives_grants = True
    wait_until(lambda: box.reported("outbox_waiting") == 0, 30, "the outbox to be empty")
    assert dark | more <= set(box.cloud.catalog)
    assert len(box.cloud.catalog) == waiting + 20
    assert len(light & set(box.cloud.catalog)) == waiting - 10
    assert box.signal(signal.SIGTERM) == 0
