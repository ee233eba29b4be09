"""Put a box beside a release repository: real signatures and models, a server in memory, a line that steps."""

from __future__ import annotations

import threading
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np

from detection.session import Detector
from edge_agent.config import AgentConfig, parse_config
from edge_agent.events import Events
from edge_agent.model_slot import FrameModel, ModelSlot
from edge_agent.ota.disk import Disk
from edge_agent.ota.parts import OtaParts, OtaState
from edge_agent.ota.self_test import InProcessSelfTest
from edge_agent.ota.server import MemoryServer
from edge_agent.ota.updater import Updater
from fleet_contracts.base import utc_now
from fleet_contracts.releases import Lineage, Release, RolloutOrder
from fleet_contracts.samples import ClassList
from flows.errors import StoreMissing
from flows.releases.build import ReleasePlan, build_release
from flows.store.memory import MemoryStore
from tests.detection.onnx_models import Row, TinyModel, save
from tests.flows.releases.release_kit import CHANNEL, MADE, NAMES, TASK, Fleet, make_fleet, rules_for

DEVICE = "box-a"
FRAME = np.full((64, 64, 3), 90, np.uint8)


class StoreFiles(MutableMapping[str, bytes]):
    """Show what a release server would give of a bucket; what a test puts over it wins."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.over: dict[str, bytes] = {}

    def __getitem__(self, path: str) -> bytes:
        if path in self.over:
            return self.over[path]
        try:
            return self._store.get(f"releases/{path}")
        except StoreMissing as error:
            raise KeyError(path) from error

    def __setitem__(self, path: str, content: bytes) -> None:
        self.over[path] = content

    def __delitem__(self, path: str) -> None:
        del self.over[path]

    def __iter__(self) -> Iterator[str]:
        return (info.key.removeprefix("releases/") for info in self._store.list("releases/"))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def load(path: Path) -> FrameModel:
    """Load a model as the real updater does."""
    detector = Detector.load(path)
    detector.warm_up()
    return detector


def build(folder: Path, version: int, *, names: tuple[str, ...] = NAMES, list_version: int = 1,
          model_names: tuple[str, ...] | None = None) -> tuple[Release, dict[str, Path | bytes]]:
    """Build a release of a tiny model; every version gives other boxes, so every file differs."""
    rows: tuple[Row, ...] = ((8.0, 8.0, 24.0 + version, 24.0, 0.9, 0),)
    onnx = save(TinyModel(rows=rows, class_names=model_names or names), folder / f"tiny-{version}.onnx")
    plan = ReleasePlan(version, CHANNEL, ClassList(task_id=TASK, version=list_version, names=model_names or names),
                       rules_for(model_names or names),
                       Lineage(kind="origin", entered_by="a test", licence="none", reason="a test"), MADE)
    release, files = build_release(plan, onnx, (), lambda _: b"")
    if model_names is not None:
        release = release.model_copy(update={
            "class_list": ClassList(task_id=TASK, version=list_version, names=names),
            "decision_rules": rules_for(names)})
    return release, files


def config_for(folder: Path, root: bytes, url: str = "http://127.0.0.1:9/", **releases: object) -> AgentConfig:
    """Make an agent's configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "root.json").write_bytes(root)
    told = {"url": url, "root_file": "root.json", "confirm_frames": 2, "poll_s": 30.0, **releases}
    return parse_config({"task_id": TASK, "device_id": DEVICE, "channel": CHANNEL, "data_dir": "data",
                         "broker": {"host": "127.0.0.1"}, "releases": told,
                         "camera": {"source": "folder:frames"}}, where=folder / "agent.toml")


@dataclass
class Box:
    """Be a box: an updater, its slot, and a line whose loop a test steps."""

    config: AgentConfig
    parts: OtaParts
    slot: ModelSlot = field(default_factory=ModelSlot)
    events: Events = field(default_factory=Events)
    stop: threading.Event = field(default_factory=threading.Event)
    updater: Updater = field(init=False)

    def __post_init__(self) -> None:
        self.updater = Updater(self.config, self.slot, self.events, self.parts)

    def frames(self, count: int = 3) -> int:
        """Let the loop inspect frames, looking at the trial after each; return the version that served last."""
        for _ in range(count):
            self.slot.take()
            serving = self.slot.current()
            if serving is not None:
                serving.detector.infer(FRAME)
                self.slot.note_good_frame()
            self.updater.watch_trial()
        return self.serving()

    def update(self) -> OtaState:
        """Look at the channel once and let the line run on."""
        self.updater.round(self.stop)
        self.frames()
        return self.updater.state()

    def serving(self) -> int:
        """Return the version the loop runs."""
        current = self.slot.current()
        return current.release_version if current else 0

    def order(self, version: int, rollout: str = "roll-1") -> None:
        """Let an order arrive."""
        self.updater.on_order(RolloutOrder(task_id=TASK, device_id=DEVICE, rollout_id=rollout, channel=CHANNEL,
                                           release_version=version, issued_at=utc_now()))


@dataclass
class World:
    """Hold a fleet, its server and one box."""

    folder: Path
    fleet: Fleet
    server: MemoryServer

    def box(self, **parts: object) -> Box:
        """Start the agent's updater, as after a boot; with other parts where named."""
        told = config_for(self.folder / "box", self.fleet.repository.trusted_root())
        return Box(told, replace(OtaParts(self.server, Disk(), InProcessSelfTest(), load), **parts))  # type: ignore[arg-type]

    def publish(self, version: int, **how: object) -> Release:
        """Build and publish a release."""
        release, files = build(self.folder, version, **how)  # type: ignore[arg-type]
        self.fleet.repository.publish(release, files)
        return release

    def model_path(self, release: Release) -> str:
        """Return where the server keeps a release's model."""
        return f"targets/{TASK}/{CHANNEL}/{release.version:06d}/{release.model.sha256}.model.onnx"


def make_world(folder: Path) -> World:
    """Make a fleet with an open channel and a server that shows its bucket."""
    fleet = make_fleet(folder)
    return World(folder, fleet, MemoryServer(StoreFiles(fleet.store)))


def picture() -> bytes:
    """Return an encoded image."""
    encoded, content = cv2.imencode(".jpg", FRAME)
    assert encoded
    return content.tobytes()
