"""Test the daemon as a process: real broker, real HTTP store, real disk; killed, stopped, restarted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge_agent.config import CameraConfig
from edge_agent.data_folder import forget_old_names
from edge_agent.main import main
from edge_agent.outbox import DiskGuard, Outbox
from tests.edge_agent.builders import DEVICE, jpeg, put_image
from tests.edge_agent.desk_box import Box
from tests.edge_agent.put_server import PutServer
from tests.helpers import ROOT, wait_until


def test_from_the_frame_to_the_receipt(box: Box) -> None:
    """Hard frames reach the bucket, the cloud hears how the box fares, and bad files stop nothing."""
    put_image(box.frames, "bad.jpg", b"")
    os.utime(box.frames / "bad.jpg", (1, 1))
    box.feed(20)
    box.start()
    wait_until(lambda: len(box.cloud.catalog) == 10, 30, "10 examples in the cloud")
    wait_until(
        lambda: box.reported("frames_inspected") == 20 and box.reported("receipts") == 10, 10, "the report"
    )
    report = box.cloud.reports[DEVICE]
    assert (report.frames_inspected, report.frames_dropped, report.frames_unreadable) == (20, 0, 1)
    assert report.kept == {"nothing-seen": 10}
    assert report.parts == {"accept": 10, "reject": 10}
    assert (report.state, report.release_version, report.outbox_waiting, report.outbox_lost) == (
        "serving",
        1,
        0,
        0,
    )
    assert (box.folder / "data" / "quarantine" / "bad.jpg").exists()
    assert [request.channel for request in box.cloud.order_requests] == ["stable"]
    example = next(iter(box.cloud.catalog.values()))
    assert example.sightings[0].device_id == DEVICE
    assert example.reasons[0].rule == "nothing-seen"


def test_a_capture_command_brings_a_frame_that_is_not_hard(box: Box) -> None:
    """The MQTT trigger works both ways: the cloud asks, the box keeps the next frames."""
    box.start()
    wait_until(lambda: DEVICE in box.cloud.reports, 20, "the box to be online")
    box.cloud.ask_for_capture(DEVICE, 1)
    wait_until(lambda: "command.asked" in box.log(), 10, "the command to arrive")
    put_image(box.frames, "light.jpg", jpeg(200))
    wait_until(lambda: len(box.cloud.catalog) == 1, 10, "the captured frame")
    assert next(iter(box.cloud.catalog.values())).reasons[0].rule == "capture"
    wait_until(lambda: len(box.cloud.answers) == 2, 10, "both answers")
    assert [(one.outcome, one.frames_kept) for one in box.cloud.answers] == [("accepted", 0), ("done", 1)]


def test_eight_kills_lose_no_example_and_count_no_frame_twice(box: Box) -> None:
    """SIGKILL at any moment: after the last start every hard frame is in the cloud, every frame counted once."""
    for attempt in range(8):
        box.feed(12)
        box.start()
        # Ever later moments: while importing, while reading, while uploading.
        box.works_for(0.25 * attempt)
        assert box.signal(signal.SIGKILL) == -signal.SIGKILL
    box.feed(3)
    box.start()
    wait_until(lambda: len(box.cloud.catalog) == box.hard, 30, "every hard frame")
    wait_until(lambda: box.status().get("frames_inspected") == 99, 15, "every frame to be counted")
    wait_until(lambda: box.status().get("outbox_waiting") == 0, 15, "the outbox to be empty")
    status = box.status()
    assert status["kept"] == {"nothing-seen": box.hard}
    assert (status["frames_dropped"], status["outbox_lost"], status["frames_unreadable"]) == (0, 0, 0)
    assert box.signal(signal.SIGTERM) == 0


def test_sigterm_ends_it_cleanly_within_five_seconds(box: Box) -> None:
    """What was handed over is durable, the last word is "offline", and the next start goes on behind it."""
    box.feed(30)
    box.start()
    wait_until(lambda: len(box.cloud.catalog) >= 1, 30, "the first example")
    began = time.monotonic()
    assert box.signal(signal.SIGTERM) == 0
    assert time.monotonic() - began < 5
    wait_until(lambda: box.cloud.statuses[DEVICE].state == "offline", 5, "the last word")
    inspected = box.status()["frames_inspected"]
    box.start()
    wait_until(
        lambda: len(box.cloud.catalog) == box.hard and box.status()["frames_inspected"] == 30, 30, "the rest"
    )
    assert isinstance(inspected, int)
    assert "Traceback" not in box.log()


def test_sigterm_is_obeyed_while_broker_and_store_are_away(box: Box, store: PutServer) -> None:
    """Nothing that waits for the network holds up the end."""
    box.feed(10)
    box.start()
    wait_until(lambda: DEVICE in box.cloud.reports, 20, "the box to be online")
    box.broker.stop()
    store.stop()
    box.feed(10)
    wait_until(lambda: "broker.away" in box.log(), 10, "the loss to be noticed")
    began = time.monotonic()
    assert box.signal(signal.SIGTERM) == 0
    assert time.monotonic() - began < 5


def test_broker_and_store_may_be_away_for_a_while(box: Box, store: PutServer) -> None:
    """The loop inspects on; what was kept arrives when they are back."""
    box.start()
    wait_until(lambda: DEVICE in box.cloud.reports, 20, "the box to be online")
    box.broker.stop()
    store.stop()
    box.feed(20)
    wait_until(lambda: box.status().get("frames_inspected") == 20, 20, "the loop to go on")
    wait_until(lambda: box.status().get("outbox_waiting") == 10, 10, "the examples to wait")
    box.broker.start()
    store.start()
    wait_until(lambda: len(box.cloud.catalog) == 10, 30, "all examples")
    wait_until(lambda: box.status().get("problem") == "", 10, "the problems to end")


def test_a_killed_box_is_told_by_its_will(box: Box) -> None:
    """The cloud learns from the broker that a box is gone."""
    box.start()
    wait_until(
        lambda: DEVICE in box.cloud.statuses and box.cloud.statuses[DEVICE].state == "serving", 20, "a status"
    )
    box.signal(signal.SIGKILL)
    wait_until(lambda: box.cloud.statuses[DEVICE].state == "offline", 10, "the will")


def test_two_agents_never_share_a_data_folder(box: Box, capfd: pytest.CaptureFixture[str]) -> None:
    """The second says so and ends with the code for a wrong configuration."""
    box.start()
    wait_until(lambda: DEVICE in box.cloud.reports, 20, "the first agent")
    second = subprocess.run(
        [sys.executable, "-m", "edge_agent", "run", "--config", str(box.folder / "agent.toml")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert second.returncode == 2
    assert "data_dir of its own" in second.stderr


def test_status_tells_whether_it_runs_and_how_it_fares(box: Box, capfd: pytest.CaptureFixture[str]) -> None:
    """`whetstone-agent status` reads the last report and asks nobody."""
    config = ["status", "--config", str(box.folder / "agent.toml")]
    assert main(config) == 1
    box.start()
    wait_until(lambda: box.status().get("release_version") == 1, 20, "a report")
    assert main(config) == 0
    box.signal(signal.SIGTERM)
    assert main(config) == 1
    written = capfd.readouterr().out
    assert "not running" in written
    assert "release_version: 1" in written


def test_it_ends_when_a_folder_had_nothing_new_for_so_long(box: Box) -> None:
    """With idle_exit_s a batch of images is inspected and the daemon leaves by itself, everything durable."""
    box.configure({"idle_exit_s": 0.5})
    box.feed(6)
    box.start()
    assert box.process is not None
    assert box.process.wait(30) == 0
    assert box.status()["frames_inspected"] == 6


def test_the_real_agent_waits_for_its_first_release_and_ends_on_sigterm(box: Box) -> None:
    """With nobody serving releases the box says "starting", inspects nothing, skips nothing, and can be stopped."""
    box.feed(4)
    box.start(module="edge_agent", arguments=("run", "--config"))
    wait_until(lambda: DEVICE in box.cloud.reports, 20, "the box to be online")
    assert box.cloud.reports[DEVICE].state in ("starting", "rolled_back", "updating")
    assert box.cloud.reports[DEVICE].frames_inspected == 0
    began = time.monotonic()
    assert box.signal(signal.SIGTERM) == 0
    assert time.monotonic() - began < 5


def test_names_that_cannot_be_forgotten_do_not_keep_the_agent_from_starting(tmp_path: Path) -> None:
    """A database that cannot be written now is only larger than it need be."""
    folder = tmp_path / "frames"
    put_image(folder, "new.jpg", jpeg(1))
    camera = CameraConfig(source=f"folder:{folder}")
    outbox = Outbox(tmp_path / "outbox", DiskGuard(10**9, 0))
    outbox.mark_done(camera.source, ["gone.jpg"], {})
    outbox._database.execute("PRAGMA query_only=1")
    forget_old_names(outbox, camera)
    assert outbox.progress(camera.source) == {"gone.jpg"}
    outbox._database.execute("PRAGMA query_only=0")
    forget_old_names(outbox, camera)
    assert outbox.progress(camera.source) == set()
