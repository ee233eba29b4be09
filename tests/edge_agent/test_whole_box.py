"""Test the whole box with nothing made up: signed releases over HTTP, real models, broker, store, and a swap.

The agent is the real command in a process of its own; only the cloud is played, by its twin.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from edge_agent.events import Events
from edge_agent.link.mqtt import MqttLink
from fleet_contracts.releases import DeviceReport
from tests.edge_agent.builders import jpeg, put_image
from tests.edge_agent.cloud_twin import CloudTwin, cloud_options
from tests.edge_agent.ota.ota_kit import DEVICE, StoreFiles, build
from tests.edge_agent.put_server import PutServer
from tests.edge_agent.real_broker import RealBroker
from tests.flows.releases.release_kit import CHANNEL, TASK, Fleet, make_fleet
from tests.helpers import ROOT, wait_until

CONFIG = """
task_id = "{task}"
device_id = "{device}"
channel = "{channel}"
data_dir = "data"
[broker]
host = "127.0.0.1"
port = {port}
reconnect_max_s = 0.5
[releases]
url = "{url}"
root_file = "root.json"
poll_s = 60
confirm_frames = 5
[camera]
source = "folder:frames"
[mining]
low = 0.2
high = 0.95
random_share = 0.0
max_per_hour = 0
near_duplicates = true
[outbox]
free_floor_mb = 0
retry_s = 0.2
[report]
every_s = 0.3
"""


class Site:
    """Be a site: release server, broker, store, the cloud's twin, and one box with its line."""

    def __init__(self, folder: Path, broker: RealBroker, store: PutServer, url: str, fleet: Fleet) -> None:
        self.folder, self.fleet = folder, fleet
        self.cloud = CloudTwin(TASK, MqttLink(broker.config(), cloud_options(), Events()), store)
        self.cloud.start()
        (folder / "root.json").write_bytes(fleet.repository.trusted_root())
        (folder / "agent.toml").write_text(
            CONFIG.format(task=TASK, device=DEVICE, channel=CHANNEL, port=broker.port, url=url)
        )
        self.fed = 0
        self.process: subprocess.Popen[bytes] | None = None

    def publish(self, version: int) -> None:
        release, files = build(self.folder, version)
        self.fleet.repository.publish(release, files)

    def start(self) -> None:
        command = [sys.executable, "-m", "edge_agent", "run", "--config", str(self.folder / "agent.toml")]
        with (self.folder / "agent.log").open("ab") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)

    def feed(self, count: int) -> None:
        for _ in range(count):
            name, content = f"part-{self.fed:05d}__0.jpg", jpeg(self.fed) + self.fed.to_bytes(4, "big")
            put_image(self.folder / "frames", name, content)
            self.fed += 1

    def feed_until(self, version: int) -> None:
        """Keep the line running until the box reports that a release serves and is confirmed."""

        def serves() -> bool:
            if self.report().frames_inspected >= self.fed - 10:
                self.feed(1)
            return (self.report().release_version, self.report().state) == (version, "serving")

        wait_until(serves, 60, f"release {version} to serve")

    def report(self) -> DeviceReport:
        empty = DeviceReport.model_construct(
            release_version=0, state="offline", frames_inspected=0, problem=""
        )
        return self.cloud.reports.get(DEVICE, empty)

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        self.cloud.stop()


def handler_of(files: StoreFiles) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = files.get(self.path.lstrip("/"))
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_: object) -> None:
            return

    return Handler


@pytest.fixture
def site(tmp_path: Path, broker: RealBroker, store: PutServer) -> Iterator[Site]:
    fleet = make_fleet(tmp_path)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(StoreFiles(fleet.store)))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    made = Site(tmp_path, broker, store, f"http://127.0.0.1:{server.server_address[1]}/", fleet)
    yield made
    made.end()
    server.shutdown()
    server.server_close()


def test_a_running_line_gets_a_better_model_and_drops_no_frame(site: Site) -> None:
    """First release, an order for the next, a swap under load, a kill, and the same release after it."""
    site.publish(1)
    site.feed(5)
    site.start()
    site.feed_until(1)
    site.publish(2)
    site.cloud.order(DEVICE, 2, channel=CHANNEL)
    site.feed_until(2)
    swap = site.report().last_swap
    assert swap is not None
    assert (swap.from_version, swap.to_version, swap.frames_dropped) == (1, 2, 0)
    assert swap.gap_ms < 100
    assert site.report().rollout_id == "rollout-2"
    # The box comes back with the release it had, and every frame was inspected once and arrived once.
    assert site.process is not None
    site.process.send_signal(signal.SIGKILL)
    assert site.process.wait(10) == -signal.SIGKILL
    site.start()
    site.feed(5)
    wait_until(lambda: site.report().frames_inspected == site.fed, 30, "every frame to be inspected")
    wait_until(lambda: len(site.cloud.catalog) == site.fed, 30, "every example to arrive")
    report = site.report()
    assert (report.release_version, report.frames_dropped, report.outbox_lost) == (2, 0, 0)
    assert {example.release_version for example in site.cloud.catalog.values()} == {1, 2}
    site.process.send_signal(signal.SIGTERM)
    assert site.process.wait(5) == 0
