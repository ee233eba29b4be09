"""Put a healthy box before the doctor: TLS broker with the project's ACL, signed releases over HTTP, an image."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
import tomli_w
from paho.mqtt.enums import CallbackAPIVersion

from edge_agent.config import parse_config
from edge_agent.doctor.command import checks_of, examine
from edge_agent.doctor.context import Patient
from edge_agent.doctor.finding import as_values
from edge_agent.login import log_in
from edge_agent.main import main
from edge_agent.ota.parts import OtaParts
from fleet_contracts import topics
from fleet_contracts.base import encode, utc_now
from fleet_contracts.releases import RolloutOrder
from tests.edge_agent.builders import jpeg, put_image
from tests.edge_agent.link.certificates import Authority
from tests.edge_agent.link.production_broker import ProductionBroker
from tests.edge_agent.ota.ota_kit import CHANNEL, DEVICE, TASK, Box, config_for, make_world
from tests.helpers import wait_until


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serve files and log nothing."""

    def log_message(self, *_: object) -> None:
        """Drop the line."""


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve a folder over HTTP; yields its address."""
    handler = partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()


class Clinic:
    """Hold the box's folder, its configuration as values to break, and the parts around it."""

    def __init__(self, folder: Path, broker: ProductionBroker, url: str, root: bytes) -> None:
        self.folder, self.broker = folder, broker
        (folder / "root.json").write_bytes(root)
        put_image(folder / "frames", "part-1__0.jpg", jpeg(120))
        certificate, key = broker.authority.issue(DEVICE)
        key.chmod(0o600)
        self.values: dict[str, Any] = {
            "task_id": TASK,
            "device_id": DEVICE,
            "channel": CHANNEL,
            "data_dir": "data",
            "broker": {
                "host": "127.0.0.1",
                "port": broker.port,
                "tls": True,
                "ca_file": str(broker.authority.ca_file),
                "cert_file": str(certificate),
                "key_file": str(key),
            },
            "releases": {"url": url, "root_file": "root.json"},
            "camera": {"source": "folder:frames"},
            "outbox": {"quota_mb": 10, "free_floor_mb": 1},
            "doctor": {"store_url": url},
            "outputs": [],
        }

    def examine(self, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, list[dict[str, str]]]:
        """Run the command; return its exit code and findings."""
        config = self.folder / "agent.toml"
        config.write_text(tomli_w.dumps(self.values))
        capsys.readouterr()
        code = main(["doctor", "--config", str(config), "--json", *options])
        return code, json.loads(capsys.readouterr().out)

    def look(self, check: str, *, running: bool = False, test_outputs: bool = False) -> list[dict[str, str]]:
        """Run one check alone and return what it found."""
        config = parse_config(self.values, where=self.folder / "agent.toml")
        patient = Patient(config, running, test_outputs)
        return as_values([*examine([one for one in checks_of(patient) if one.name == check])])

    def order(self) -> None:
        """Let the cloud order a release: a retained message on the device's down topic."""
        client = paho.Client(CallbackAPIVersion.VERSION2)
        log_in(client, self.broker.as_client("whetstone-cloud"), "broker")
        client.connect("127.0.0.1", self.broker.port)
        client.loop_start()
        order = RolloutOrder(task_id=TASK, device_id=DEVICE, rollout_id="r", channel=CHANNEL,
                             release_version=1, issued_at=utc_now())  # fmt: skip
        told = client.publish(topics.down(TASK, DEVICE, "order"), encode(order), qos=1, retain=True)
        wait_until(told.is_published, 10, "the order to be taken")
        client.disconnect()
        client.loop_stop()


def of(findings: list[dict[str, str]], check: str) -> list[dict[str, str]]:
    """Return the findings of one check that are not ok."""
    return [finding for finding in findings if finding["check"] == check and finding["level"] != "ok"]


@contextmanager
def open_clinic(folder: Path) -> Iterator[Clinic]:
    """Build everything a healthy box needs, with one release installed."""
    world = make_world(folder / "cloud")
    world.publish(1)
    shown = folder / "shown"
    for info in world.fleet.store.list("releases/"):
        path = shown / info.key.removeprefix("releases/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(world.fleet.store.get(info.key))
    (folder / "broker").mkdir()
    broker = ProductionBroker(folder / "broker", Authority(folder / "ca"))
    broker.start()
    try:
        with serving(shown) as url:
            home = folder / "box"
            told = config_for(home, world.fleet.repository.trusted_root(), url)
            assert Box(told, OtaParts.real(told)).update().release_version == 1
            clinic = Clinic(home, broker, url, world.fleet.repository.trusted_root())
            clinic.order()
            yield clinic
    finally:
        broker.stop()
