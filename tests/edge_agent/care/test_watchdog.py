"""Test the watchdog: by itself with a clock of our own, and as a process against systemd's socket."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.care import Deadlines, Heartbeat
from edge_agent.care.notify import Notifier, notifier_from
from edge_agent.care.watchdog import EXIT_HUNG, CareOptions, Watchdog
from edge_agent.events import Events
from tests.edge_agent.builders import jpeg, put_image
from tests.edge_agent.care.notify_socket import NotifySocket, listening
from tests.edge_agent.desk_box import Box
from tests.helpers import ROOT, program, wait_until

UNIT = ROOT / "deploy" / "systemd" / "whetstone-agent.service"
WATCHDOG_S = 1.5
CARE = "[care]\nengine_deadline_s = 2.0\nloop_deadline_s = 5.0\n"


def white() -> bytes:
    """Return a picture on which the hanging engine hangs."""
    import cv2
    import numpy as np

    return cv2.imencode(".jpg", np.full((64, 64, 3), 255, np.uint8))[1].tobytes()


def start(box: Box, heard: NotifySocket | None, *, care: str = CARE) -> None:
    """Start the agent with the hanging engine, as systemd would."""
    config = box.configure()
    config.write_text(config.read_text() + care)
    environment = dict(os.environ)
    if heard is not None:
        environment.update(NOTIFY_SOCKET=heard.address, WATCHDOG_USEC=str(int(WATCHDOG_S * 1e6)))
    command = [sys.executable, "-m", "tests.edge_agent.care.hanging_agent", str(config)]
    with (box.folder / "agent.log").open("ab") as log:
        box.process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=environment)


def test_words_reach_a_path_and_an_abstract_socket(tmp_path: Path) -> None:
    """The service manager names its socket either way."""
    for address in (str(tmp_path / "notify"), f"@whetstone-test-{os.getpid()}"):
        with listening(address) as heard:
            assert Notifier(address).tell("READY=1", "STATUS=well")
            wait_until(lambda heard=heard: len(heard.words()) == 2, 5, "the words")  # type: ignore[misc]
            assert heard.words() == ["READY=1", "STATUS=well"]
    assert not Notifier(str(tmp_path / "nobody")).tell("READY=1")
    assert not Notifier().tell("READY=1")


@pytest.mark.parametrize(
    ("environment", "watched"),
    [
        ({}, False),
        ({"NOTIFY_SOCKET": "/run/n"}, False),
        ({"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "3000000"}, True),
        ({"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "7"}, True),
        ({"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "8"}, False),
        ({"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "soon"}, False),
        ({"NOTIFY_SOCKET": "vsock:2:1", "WATCHDOG_USEC": "3000000"}, False),
    ],
)
def test_only_a_watchdog_meant_for_us_is_fed(environment: dict[str, str], watched: bool) -> None:
    """A shell between systemd and the agent is not ours to answer for."""
    notifier = notifier_from(environment, pid=7)
    assert notifier.is_watched == watched
    assert notifier.watchdog_s == (3.0 if watched else 0.0)


def test_a_hang_is_told_ends_the_process_and_may_pass() -> None:
    """Without systemd the process ends itself, after the reporter had time to say why, and only if told to."""
    heart, events, codes = Heartbeat(), Events(), list[int]()
    options = CareOptions(Deadlines(1.0, 1.0), exit_when_hung=True, end_process=codes.append)
    dog = Watchdog(heart, Notifier(), options, events)
    heart.beat()
    began = heart.last_beat_mono
    assert dog.look(began + 0.5).is_healthy
    assert dog.look(began + 1.5).health == "hung"
    assert "engine.hung" in events.problems()
    assert dog.look(began + 2.5).health == "hung"
    assert codes == []
    dog.look(began + 3.6)
    assert codes == [EXIT_HUNG]
    heart.beat()
    assert dog.look(heart.last_beat_mono).is_healthy
    assert events.problems() == {}
    patient = Watchdog(heart, Notifier(), CareOptions(Deadlines(1.0, 1.0), end_process=codes.append), events)
    for later in (2.0, 10.0):
        patient.look(heart.last_beat_mono + later)
    assert codes == [EXIT_HUNG]


def test_systemd_is_fed_with_a_dead_camera_and_not_with_a_hung_engine(box: Box, tmp_path: Path) -> None:
    """READY once the loop turns, WATCHDOG while the camera is gone, and no more once the engine hangs."""
    with listening(tmp_path / "notify") as heard:
        start(box, heard)
        wait_until(lambda: heard.count("READY=1") == 1, 30, "READY=1")
        # The camera dies: its folder is gone.
        box.frames.rmdir()
        wait_until(lambda: "source.away" in box.log(), 10, "the dead camera to be told")
        fed = heard.count("WATCHDOG=1")
        wait_until(lambda: heard.count("WATCHDOG=1") >= fed + 6, 2.5 * WATCHDOG_S, "the feeding to go on")
        assert heard.age_s("WATCHDOG=1") < WATCHDOG_S
        # It comes back, and the engine hangs.
        put_image(box.frames, "part-1__0.jpg", jpeg(200))
        put_image(box.frames, "part-2__0.jpg", white())
        wait_until(lambda: "care.hung" in box.log(), 20, "the hang to be noticed")
        wait_until(lambda: heard.age_s("WATCHDOG=1") > 2 * WATCHDOG_S, 10, "the feeding to stop")
        assert any(word.startswith("STATUS=hung: an engine call") for word in heard.words())
        wait_until(lambda: "engine.hung" in str(box.status().get("problem")), 10, "the report to say why")
        # What systemd does then: SIGABRT, and every thread's stack is in the journal.
        assert box.signal(signal.SIGABRT) == -signal.SIGABRT
        assert "find_or_hang" in box.log()


def test_without_systemd_a_hung_agent_ends_itself_when_told_to(box: Box) -> None:
    """The exit code and the status file tell a supervisor and a person why."""
    start(box, None, care=CARE + "exit_when_hung = true\n")
    put_image(box.frames, "part-1__0.jpg", white())
    assert box.process is not None
    assert box.process.wait(40) == EXIT_HUNG
    assert "an engine call has taken" in str(box.status().get("problem"))
    assert "care.hung" in box.log()


def test_a_good_end_says_so(box: Box, tmp_path: Path) -> None:
    """STOPPING=1 tells systemd that no more feeding is to be expected."""
    with listening(tmp_path / "notify") as heard:
        start(box, heard)
        wait_until(lambda: heard.count("READY=1") == 1, 30, "READY=1")
        assert box.signal(signal.SIGTERM) == 0
        wait_until(lambda: heard.count("STOPPING=1") == 1, 5, "STOPPING=1")


def test_the_unit_is_one_that_systemd_understands(tmp_path: Path) -> None:
    """Every line is known to systemd, and the devices a box needs are not hidden."""
    text = UNIT.read_text()
    for line in ("Type=notify", "NotifyAccess=main", "WatchdogSec=30", "Restart=always"):
        assert line in text.splitlines()
    directives = [line.partition("=")[0] for line in text.splitlines()]
    for hides in ("PrivateDevices", "DevicePolicy", "DeviceAllow", "ProtectClock", "PrivateTmp"):
        assert hides not in directives
    analyze = program("systemd-analyze", "apt-get install systemd")
    unit = tmp_path / UNIT.name
    unit.write_text(text.replace("/opt/whetstone/bin/whetstone-agent", sys.executable))
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(unit)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr.strip()) == (0, "")
