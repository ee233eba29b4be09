"""Run the real embedded services of a folder, kill them, and see them come back."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue

import paho.mqtt.client as mqtt
import pytest
from minio import Minio

from fleet_contracts import topics
from flows.up import credentials, embedded, processes, programs
from flows.up.state import UpState, read_state
from tests.helpers import ROOT, missing, wait_until

LIGHT = ("store", "releases", "broker")


@contextmanager
def running(folder: Path, only: tuple[str, ...] = LIGHT, seconds: float = 30) -> Iterator[subprocess.Popen[bytes]]:
    """Run the supervisor as a process until the block ends, and see that nothing stays."""
    with (folder.parent / "up.log").open("ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "flows.up", "--folder", str(folder), "--only", *only],
            cwd=ROOT,
            stdout=log,
            stderr=log,
        )
    try:
        wait_until(lambda: now(folder, child.pid) is not None, seconds, "the services to be ready")
        yield child
    finally:
        child.terminate()
        child.wait(30)


def now(folder: Path, supervisor: int) -> UpState | None:
    """Return the state when this supervisor wrote it and all is ready."""
    found = read_state(folder)
    return found if found is not None and found.pid == supervisor and found.ready else None


def names(folder: Path) -> dict[str, processes.ProcessName]:
    """Return the processes of the services."""
    found = read_state(folder)
    assert found is not None
    return {
        name: processes.ProcessName(one.pid, one.start_ticks)
        for name, one in found.services.items()
        if one.pid
    }


def object_store(folder: Path) -> Minio:
    """Return a client of the folder's store."""
    found = read_state(folder)
    assert found is not None
    keys = credentials.store_keys(folder)
    return Minio(
        f"127.0.0.1:{found.ports['store']}",
        keys.access_key,
        keys.secret_key,
        secure=False,
        region="us-east-1",
    )


def fetch(folder: Path, path: str) -> bytes:
    """Read a file from the release server."""
    found = read_state(folder)
    assert found is not None
    with urllib.request.urlopen(found.urls["releases"] + path, timeout=5) as answer:
        content: bytes = answer.read()
    return content


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder for services; skip where no real broker is installed."""
    if programs.mosquitto() is None:
        missing("program mosquitto", "apt-get install mosquitto")
    return tmp_path / "installation"


def test_serves_releases_from_the_bucket_at_once(folder: Path) -> None:
    """What is put under releases/ is served read-only over HTTP with its newest content; absent is 404."""
    with running(folder):
        store = object_store(folder)
        for size in (10, 25, 7):
            content = b"x" * size
            store.put_object("whetstone", "releases/metadata/timestamp.json", io.BytesIO(content), size)
            assert fetch(folder, "metadata/timestamp.json") == content
        with pytest.raises(urllib.error.HTTPError) as caught:
            fetch(folder, "metadata/none.json")
        assert caught.value.code == 404
        found = read_state(folder)
        assert found is not None
        write = urllib.request.Request(found.urls["releases"] + "x", data=b"x", method="PUT")
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(write, timeout=5)


def test_killed_services_come_back_on_their_ports_with_their_data(folder: Path) -> None:
    """Each service killed with SIGKILL is started again, and what it held is still there."""
    with running(folder) as supervisor:
        object_store(folder).put_object("whetstone", "releases/kept", io.BytesIO(b"kept"), 4)
        before, ports = names(folder), read_state(folder).ports  # type: ignore[union-attr]
        for name in LIGHT:
            assert processes.end(before[name]), f"{name} was not there to be killed"
        wait_until(
            lambda: now(folder, supervisor.pid) is not None
            and all(names(folder)[name] != before[name] for name in LIGHT),
            30,
            "the killed services to come back",
        )
        after = read_state(folder)
        assert after is not None
        assert after.ports == ports
        assert all(after.services[name].restarts == 1 for name in LIGHT)
        assert fetch(folder, "kept") == b"kept"


def test_killed_supervisor_leaves_nothing_and_can_run_again(folder: Path) -> None:
    """SIGKILL to the supervisor ends every service; a second run in the folder finds ports and data."""
    with running(folder) as first:
        object_store(folder).put_object("whetstone", "releases/kept", io.BytesIO(b"kept"), 4)
        children, ports = names(folder), read_state(folder).ports  # type: ignore[union-attr]
        first.kill()
        assert first.wait(10) == -signal.SIGKILL
        wait_until(lambda: not any(map(processes.is_alive, children.values())), 10, "the children to end")
    with running(folder):
        assert read_state(folder).ports == ports  # type: ignore[union-attr]
        assert fetch(folder, "kept") == b"kept"
    wait_until(lambda: not any(map(processes.is_alive, names(folder).values())), 10, "all to end")


def test_second_supervisor_is_refused(folder: Path) -> None:
    """A folder that is being served answers a second 'up' with who holds it and what to do."""
    with running(folder, only=("broker",)):
        second = subprocess.run(
            [sys.executable, "-m", "flows.up", "--folder", str(folder), "--only", "broker"],
            cwd=ROOT,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert second.returncode != 0
        assert b"another 'whetstone up' holds it" in second.stderr


class Client:
    """Be an MQTT client that collects what it hears."""

    def __init__(self, port: int, user: str, password: str) -> None:
        self.heard: Queue[tuple[str, bytes]] = Queue()
        self._connected: Queue[bool] = Queue()
        self._subscribed: Queue[int] = Queue()
        self.mqtt = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=f"test-{uuid.uuid4().hex[:8]}")
        self.mqtt.username_pw_set(user, password)
        self.mqtt.on_connect = lambda *got: self._connected.put(not got[3].is_failure)
        self.mqtt.on_message = lambda _, __, message: self.heard.put((message.topic, message.payload))
        self.mqtt.on_subscribe = lambda *got: self._subscribed.put(1)
        self.mqtt.connect("127.0.0.1", port)
        self.mqtt.loop_start()
        self.accepted = self._connected.get(timeout=10)

    def subscribe(self, pattern: str) -> None:
        """Subscribe and wait for the broker's answer, whatever it is."""
        self.mqtt.subscribe(pattern, qos=1)
        self._subscribed.get(timeout=10)

    def say(self, topic: str, payload: bytes) -> None:
        """Publish and wait for the acknowledgement, which a denied message gets as well."""
        self.mqtt.publish(topic, payload, qos=1).wait_for_publish(10)

    def hears(self, seconds: float = 10) -> tuple[str, bytes] | None:
        """Return the next message, or None."""
        try:
            return self.heard.get(timeout=seconds)
        except Empty:
            return None

    def close(self) -> None:
        """Leave."""
        self.mqtt.disconnect()
        self.mqtt.loop_stop()


def check_pinning(port: int, secret: Callable[[str], str]) -> None:
    """Check on a running broker that a device is heard as itself and as nobody else."""
    cloud = Client(port, credentials.CLOUD_USER, secret(credentials.CLOUD_USER))
    device = Client(port, "press-1", secret("press-1"))
    wrong = Client(port, "press-1", "not the password")
    try:
        assert (cloud.accepted, device.accepted, wrong.accepted) == (True, True, False)
        cloud.subscribe(topics.all_up())
        device.subscribe(topics.all_down("plates", "press-2"))
        device.subscribe(topics.all_down("plates", "press-1"))
        device.say(topics.up("plates", "press-2", "report"), b"a lie")
        device.say(topics.up("plates", "press-1", "report"), b"mine")
        assert cloud.hears() == (topics.up("plates", "press-1", "report"), b"mine")
        cloud.say(topics.down("plates", "press-2", "grant"), b"for another")
        cloud.say(topics.down("plates", "press-1", "grant"), b"for me")
        assert device.hears() == (topics.down("plates", "press-1", "grant"), b"for me")
    finally:
        for client in (cloud, device, wrong):
            client.close()


def test_broker_pins_devices_added_while_it_runs(folder: Path) -> None:
    """A device added to a running broker gets in without a restart, and speaks for itself only."""
    with running(folder, only=("broker",)):
        before = names(folder)["broker"]
        embedded.add_device(folder, "press-1")
        secret = credentials.broker_users(folder)
        port = read_state(folder).ports["broker"]  # type: ignore[union-attr]
        wait_until(lambda: Client(port, "press-1", secret["press-1"]).accepted, 10, "the device to be let in")
        check_pinning(port, secret.__getitem__)
        assert names(folder)["broker"] == before


def test_small_broker_keeps_the_same_rules(tmp_path: Path) -> None:
    """Where Mosquitto is missing, amqtt serves with the same passwords and the same topics per device."""
    ports = embedded.prepare(tmp_path)
    credentials.add_broker_user(tmp_path, "press-1")
    command = [sys.executable, "-m", "flows.up.small_broker", "--folder", str(tmp_path), "--port", str(ports.broker)]
    with (tmp_path / "broker.log").open("wb") as log:
        child = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
    try:
        users = credentials.broker_users(tmp_path)
        from flows.up.readiness import answers_mqtt

        probe = answers_mqtt(ports.broker, credentials.CLOUD_USER, lambda: users[credentials.CLOUD_USER])
        wait_until(probe, 30, "the small broker to serve")
        # What Mosquitto reads its passwords at must not end this one.
        child.send_signal(signal.SIGHUP)
        check_pinning(ports.broker, users.__getitem__)
        assert child.poll() is None
    finally:
        child.kill()
        child.wait(10)
