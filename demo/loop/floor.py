"""Run the factory floor: lines and boxes as processes of their own, started again when they end.

One folder a device, `<folder>/demo/<device>/`: order.json, camera/ and truth/ of the line, agent.toml
and data/ of the box.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import tomli_w

import demo
from demo.line.writer import LineOrder, read_order, write_order
from demo.loop.settings import LoopSettings
from flows.up.readiness import always
from flows.up.services import Service
from flows.up.state import UpState
from flows.up.supervisor import Place, Supervisor

_JOIN_SECONDS = 40.0
_FOR_EVER = 1e9  # seconds


@dataclass(frozen=True, slots=True)
class BoxAddresses:
    """Say where a box reaches the cloud side, and what it trusts from the start."""

    broker_host: str
    broker_port: int
    password_files: Mapping[str, Path]
    releases_url: str
    root_file: Path


@dataclass(frozen=True, slots=True)
class BoxFolder:
    """Name the files of one line and its box."""

    path: Path

    @property
    def camera(self) -> Path:
        """Return where the line puts frames and the box reads them."""
        return self.path / "camera"

    @property
    def truth(self) -> Path:
        """Return where the line puts what is wrong with each part."""
        return self.path / "truth"

    @property
    def order(self) -> Path:
        """Return the file that tells the line what to make."""
        return self.path / "order.json"

    @property
    def config(self) -> Path:
        """Return the box's configuration file."""
        return self.path / "agent.toml"

    @property
    def data(self) -> Path:
        """Return the box's own folder: outbox, releases, counters."""
        return self.path / "data"

    def tell(self, order: LineOrder) -> None:
        """Tell the line what to make from its next part on."""
        if not self.order.exists() or read_order(self.order) != order:
            write_order(self.order, order)

    def parts_made(self) -> int:
        """Count the frames the line ever made."""
        return sum(1 for path in self.camera.glob("*.jpg")) if self.camera.is_dir() else 0


def box_folder(folder: Path, device: str) -> BoxFolder:
    """Return a device's folder inside the demo's."""
    return BoxFolder(folder / "demo" / device)


def write_agent_config(folder: BoxFolder, device: str, settings: LoopSettings, at: BoxAddresses) -> Path:
    """Write a box's configuration and return its file."""
    mining = settings.mining
    config = {
        "task_id": settings.task_id,
        "device_id": device,
        "channel": settings.channel,
        "data_dir": str(folder.data),
        "broker": {
            "host": at.broker_host,
            "port": at.broker_port,
            "username": device,
            "password_file": str(at.password_files[device]),
            "reconnect_max_s": 5.0,
        },
        "releases": {
            "url": at.releases_url,
            "root_file": str(at.root_file),
            "poll_s": 20.0,
            # Before the first frame none comes to confirm a release with, so the time alone must do.
            "confirm_frames": 10,
            "confirm_s": 10.0,
        },
        "camera": {"name": "cam0", "source": f"folder:{folder.camera}", "mode": "every", "follow": True},
        "mining": {
            "low": mining.low,
            "high": mining.high,
            "random_share": mining.random_share,
            "max_per_hour": mining.max_per_hour,
        },
        "outbox": {"quota_mb": 512.0, "free_floor_mb": 64.0, "retry_s": 2.0},
        "report": {"every_s": 1.0},
    }
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.camera.mkdir(exist_ok=True)
    draft = folder.config.with_suffix(".part")
    draft.write_text(tomli_w.dumps(config))
    draft.replace(folder.config)
    return folder.config


def line_service(folder: BoxFolder, device: str, seed: int) -> Service:
    """Describe the process of one line."""
    command = (sys.executable, "-m", "demo.line", "--out", str(folder.path), "--name", device,
               "--seed", str(seed), "--order", str(folder.order))  # fmt: skip
    # A line that was told to stop has done its work; only one that died is started again.
    return Service(f"line-{device}", command, probe=always, once=True, start_seconds=_FOR_EVER)


def agent_service(folder: BoxFolder, device: str) -> Service:
    """Describe the process of one box."""
    command = (sys.executable, "-m", "edge_agent.main", "run", "--config", str(folder.config))
    return Service(name=f"agent-{device}", command=command, probe=always)


class Keeper:
    """Keep processes running in a thread, until the block ends; a killed demo takes them with it."""

    def __init__(self, folder: Path, services: tuple[Service, ...]) -> None:
        """Take the folder for logs and state, and what to run."""
        env = {**os.environ, "PYTHONPATH": _python_path(), "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
        folder.mkdir(parents=True, exist_ok=True)
        self._supervisor = Supervisor(Place(folder, env, {}, {}), services)
        self._thread = threading.Thread(target=self._run, name=f"keeper-{folder.name}", daemon=True)
        self._last: UpState | None = None

    def __enter__(self) -> Keeper:
        """Start the processes."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End the processes and wait for them."""
        self._supervisor.stop()
        self._thread.join(_JOIN_SECONDS)

    @property
    def restarts(self) -> int:
        """Return how often any of the processes had to be started again."""
        return sum(service.restarts for service in self._last.services.values()) if self._last else 0

    def _run(self) -> None:
        self._supervisor.run(self._note)

    def _note(self, state: UpState) -> None:
        self._last = state


def _python_path() -> str:
    above = str(Path(demo.__file__).resolve().parent.parent)
    given = os.environ.get("PYTHONPATH", "")
    return f"{above}{os.pathsep}{given}" if given else above
