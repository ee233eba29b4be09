"""Put a box on a desk: an agent in a process of its own, with a folder of pictures and the cloud's twin."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from edge_agent.events import Events
from edge_agent.link.mqtt import MqttLink
from tests.edge_agent.builders import DEVICE, TASK, jpeg, put_image, write_config
from tests.edge_agent.cloud_twin import CloudTwin, cloud_options
from tests.edge_agent.put_server import PutServer
from tests.edge_agent.real_broker import RealBroker
from tests.helpers import ROOT, wait_until

SECTIONS = {
    "broker": {"reconnect_max_s": 0.5},
    "mining": {"random_share": 0.0, "max_per_hour": 0, "near_duplicates": True},
    "outbox": {"quota_mb": 100, "free_floor_mb": 0, "retry_s": 0.2},
    "report": {"every_s": 0.3},
}


class Box:
    """Be a box on a desk: its folder, its agent's process, and the cloud it talks to."""

    def __init__(self, folder: Path, broker: RealBroker, store: PutServer) -> None:
        self.folder, self.broker = folder, broker
        self.frames = folder / "frames"
        self.frames.mkdir()
        (folder / "root.json").write_text("{}")
        self.cloud = CloudTwin(TASK, MqttLink(broker.config(), cloud_options(), Events()), store)
        self.cloud.start()
        self.process: subprocess.Popen[bytes] | None = None
        self.hard = 0

    def configure(self, camera: dict[str, Any] | None = None, data_dir: str = "data") -> Path:
        more = {"box": {"data_dir": data_dir}, "camera": camera or {}}
        return write_config(self.folder, self.broker.port, **SECTIONS, **more)

    def start(
        self, *, module: str = "tests.edge_agent.agent_process", arguments: tuple[str, ...] = ()
    ) -> None:
        self.run([sys.executable, "-m", module, *arguments, str(self.folder / "agent.toml")])

    def run(self, command: list[str]) -> None:
        with (self.folder / "agent.log").open("ab") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)

    def feed(self, count: int) -> None:
        """Put as many pictures, every second one dark and so hard."""
        for _ in range(count):
            number = len(list(self.frames.glob("*.jpg")))
            dark = number % 2 == 0
            self.hard += dark
            seed = (number // 2) % 100 + (0 if dark else 150)
            put_image(self.frames, f"part-{number:05d}__0.jpg", jpeg(seed) + number.to_bytes(4, "big"))

    def signal(self, number: int) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(10)

    def log(self) -> str:
        return (self.folder / "agent.log").read_text(errors="replace")

    def status(self) -> dict[str, object]:
        path = self.folder / "data" / "status.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def works_for(self, seconds: float) -> None:
        """Let it work for so long, or until four more examples are in the cloud."""
        deadline, known = time.monotonic() + seconds, len(self.cloud.catalog)
        wait_until(lambda: time.monotonic() > deadline or len(self.cloud.catalog) > known + 3, 20, "work")

    def reported(self, name: str) -> object:
        return getattr(self.cloud.reports.get(DEVICE), name, None)

    def accounted(self) -> int:
        """Return how many hard examples the newest report calls kept and waiting, or lost."""
        report = self.cloud.reports.get(DEVICE)
        return 0 if report is None else report.outbox_lost + report.outbox_waiting

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        self.cloud.stop()
