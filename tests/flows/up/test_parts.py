"""Check ports, secrets, process names, logs and the state file."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from flows.settings import Settings, TaskSettings, load_settings, write_settings
from flows.up import credentials, embedded, processes, small_broker, state
from flows.up.errors import AlreadyRunning, NotRunning, UpError
from flows.up.ports import HIGHEST, HOST, LOWEST, choose_ports, is_free
from tests.helpers import ROOT, wait_until


def test_ports_are_kept(tmp_path: Path) -> None:
    """A folder gets its ports once: boxes and signed URLs remember them."""
    first = choose_ports(tmp_path)
    assert choose_ports(tmp_path) == first
    assert all(LOWEST <= port <= HIGHEST for port in (first.store, first.releases, first.broker, first.prefect))


def test_only_a_taken_port_is_replaced(tmp_path: Path) -> None:
    """When somebody else listens on one port, that one alone changes."""
    first = choose_ports(tmp_path)
    with socket.socket() as other:
        other.bind((HOST, first.broker))
        other.listen()
        assert not is_free(first.broker)
        second = choose_ports(tmp_path)
    assert second.broker != first.broker
    assert (second.store, second.releases, second.prefect) == (first.store, first.releases, first.prefect)


@pytest.mark.parametrize("content", ["", "[]", '{"store": 1}', '{"store": "x"}'])
def test_torn_ports_file_is_made_anew(tmp_path: Path, content: str) -> None:
    """A ports file that cannot be read is replaced, not fatal."""
    (tmp_path / "ports.json").write_text(content)
    assert choose_ports(tmp_path).store


def test_secrets_are_the_owners(tmp_path: Path) -> None:
    """No secret can be read by others, and a second call keeps it."""
    keys = credentials.store_keys(tmp_path)
    device = credentials.add_broker_user(tmp_path, "press-1")
    before = device.read_text()
    assert credentials.add_broker_user(tmp_path, "press-1").read_text() == before
    assert credentials.store_keys(tmp_path) == keys
    assert keys.secret_key not in repr(keys)
    for path in (device, credentials.store_keys_file(tmp_path), tmp_path / "broker" / "passwords"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert before.strip() not in (tmp_path / "broker" / "passwords").read_text()


@pytest.mark.parametrize("name", ["", "../x", "A", "a b", "x" * 64])
def test_device_names_are_checked(tmp_path: Path, name: str) -> None:
    """A name that is no device id makes no file anywhere."""
    with pytest.raises(UpError):
        credentials.add_broker_user(tmp_path, name)
    assert not list(tmp_path.rglob("*"))


def test_settings_keep_what_is_not_embedded(tmp_path: Path) -> None:
    """Preparing a folder again changes addresses only; tasks and limits stay."""
    embedded.prepare(tmp_path)
    changed = load_settings(tmp_path).with_task("plates", TaskSettings(trigger_threshold=7))
    write_settings(tmp_path, changed.model_copy(update={"sweep_seconds": 3.0}))
    ports = embedded.prepare(tmp_path)
    again = load_settings(tmp_path)
    assert again.tasks["plates"].trigger_threshold == 7
    assert again.sweep_seconds == 3.0
    assert again.store.endpoint == f"127.0.0.1:{ports.store}"
    assert again.releases.public_url.endswith("/")
    assert isinstance(again, Settings)


def test_process_names_survive_reuse_of_ids() -> None:
    """A process is known by id and start; another one under the same id is not it."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    name = processes.name_of(child.pid)
    assert name is not None
    assert processes.is_alive(name)
    assert not processes.end(processes.ProcessName(name.pid, name.start_ticks + 1))
    assert child.poll() is None
    assert processes.end(name)
    child.wait(10)
    assert processes.name_of(child.pid) is None
    assert not processes.end(name)


def test_children_die_with_a_killed_parent(tmp_path: Path) -> None:
    """Killing the parent with SIGKILL ends its bound children: nothing is left behind."""
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import os, sys, time, pathlib\n"
            "from flows.up.processes import start_bound\n"
            "folder = pathlib.Path(sys.argv[1])\n"
            "sleeper = [sys.executable, '-c', 'import time; time.sleep(60)']\n"
            "child = start_bound(sleeper, env=os.environ, log=folder / 'log', folder=folder)\n"
            "(folder / 'pid.part').write_text(str(child.pid)); (folder / 'pid.part').rename(folder / 'pid')\n"
            "time.sleep(60)\n",
            str(tmp_path),
        ]
    )
    try:
        wait_until((tmp_path / "pid").exists, 20, "the child to start")
        child = processes.name_of(int((tmp_path / "pid").read_text()))
        assert child is not None
    finally:
        parent.kill()
        parent.wait(10)
    assert parent.returncode == -signal.SIGKILL
    wait_until(lambda: not processes.is_alive(child), 10, "the child to die with its parent")


def test_logs_are_rotated_under_their_writer(tmp_path: Path) -> None:
    """A log past its limit is copied aside and emptied while the writer keeps its handle."""
    log = tmp_path / "service.log"
    with log.open("ab", buffering=0) as writer:
        for text in (b"first\n", b"second\n", b"third\n"):
            writer.write(text)
            assert processes.rotate(log, limit=2, kept=2)
        writer.write(b"now\n")
    assert log.read_bytes() == b"now\n"
    assert (tmp_path / "service.log.1").read_bytes() == b"third\n"
    assert (tmp_path / "service.log.2").read_bytes() == b"second\n"
    assert not (tmp_path / "service.log.3").exists()
    assert not processes.rotate(log)
    assert not processes.rotate(tmp_path / "none.log")


def test_a_folder_has_one_supervisor(tmp_path: Path) -> None:
    """The lock says who lives; the file alone proves nothing."""
    state.write_state(tmp_path, state.UpState(pid=os.getpid(), start_ticks=1))
    with pytest.raises(NotRunning):
        state.running_state(tmp_path)
    with state.hold(tmp_path):
        assert state.is_held(tmp_path)
        assert state.running_state(tmp_path).pid == os.getpid()
        with pytest.raises(AlreadyRunning), state.hold(tmp_path):
            pass
    assert not state.is_held(tmp_path)
    assert stat.S_IMODE((tmp_path / "up.json").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("user", "topic", "speaks", "allowed"),
    [
        ("press-1", "whetstone/v1/plates/up/press-1/report", True, True),
        ("press-1", "whetstone/v1/plates/up/press-2/report", True, False),  # another's voice
        ("press-1", "whetstone/v1/plates/down/press-1/grant", True, False),  # the cloud's voice
        ("press-1", "whetstone/v1/plates/down/press-1/+", False, True),
        ("press-1", "whetstone/v1/plates/down/press-2/+", False, False),
        ("press-1", "whetstone/v1/plates/down/+/grant", False, False),  # a filter over others
        ("press-1", "#", False, False),
        ("press-1", "whetstone/v1/+/down/press-1/+", False, True),
        ("whetstone-cloud", "whetstone/v1/+/up/+/+", False, True),
        ("whetstone-cloud", "$SYS/#", False, False),
        ("", "whetstone/v1/plates/down//grant", False, False),
    ],
)
def test_small_broker_pins_devices_to_their_topics(user: str, topic: str, speaks: bool, allowed: bool) -> None:
    """A device speaks and listens as itself only; the cloud as everybody under our prefix."""
    assert small_broker.may(user, topic, speaks=speaks) is allowed


def test_production_broker_has_the_same_rules() -> None:
    """The ACL that is deployed is the one the embedded broker gets."""
    assert (ROOT / "deploy" / "mosquitto" / "acl").read_text() == credentials.acl_text()


def test_only_mosquitto_is_told_of_a_new_device_by_signal(tmp_path: Path) -> None:
    """SIGHUP ends a program that does not know it, so a broker that is not Mosquitto never gets it."""
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        name = processes.name_of(child.pid)
        assert name is not None
        broker = state.ServiceState(state="ready", pid=name.pid, start_ticks=name.start_ticks)
        with state.hold(tmp_path):
            state.write_state(tmp_path, state.UpState(pid=os.getpid(), start_ticks=1, services={"broker": broker}))
            assert embedded.add_device(tmp_path, "press-1").exists()
        # A signal sent before this is acted on before anything is read.
        assert child.communicate(b"still here", timeout=10) == (b"still here", None)
        assert child.returncode == 0
    finally:
        child.kill()
        child.wait(10)
