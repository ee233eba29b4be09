"""Make repositories and releases for tests: real keys, real TUF metadata, a store in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path

from fleet_contracts.ids import sha256_of
from fleet_contracts.judging import InputSpec
from fleet_contracts.releases import Artifact, Lineage, Probe, Release
from fleet_contracts.samples import ClassList, ClassRule, DecisionRules, DetectedBox
from flows.releases.keys import create_keys
from flows.releases.metadata import Lifetimes
from flows.releases.repository import ReleaseRepository
from flows.store.memory import MemoryStore

TASK, CHANNEL = "boards", "stable"
NAMES = ("scratch", "missing")
MADE = datetime(2026, 5, 1, tzinfo=timezone.utc)


@dataclass
class Clock:
    """Be a clock that a test moves."""

    now: datetime = field(default_factory=lambda: datetime.now(timezone.utc).replace(microsecond=0))

    def __call__(self) -> datetime:
        """Return the time."""
        return self.now

    def move(self, **by: float) -> None:
        """Go on by so many days, hours, ..."""
        self.now += timedelta(**by)


@dataclass
class Fleet:
    """Hold a repository with what made it."""

    store: MemoryStore
    keys: Path
    clock: Clock
    repository: ReleaseRepository

    def reopened(self) -> ReleaseRepository:
        """Open the repository as another process would."""
        return ReleaseRepository(self.store, self.keys, now=self.clock)


def make_fleet(folder: Path, *, channels: Sequence[str] = (CHANNEL,), lifetimes: Lifetimes | None = None) -> Fleet:
    """Make keys and an initialised repository."""
    keys = folder / "keys"
    create_keys(keys)
    store, clock = MemoryStore(), Clock()
    repository = ReleaseRepository(store, keys, lifetimes=lifetimes, now=clock)
    repository.initialise(keys / "offline")
    for channel in channels:
        repository.add_channel(TASK, channel, keys / "offline")
    return Fleet(store, keys, clock, repository)


def rules_for(names: Sequence[str]) -> DecisionRules:
    """Make decision rules that name every class."""
    return DecisionRules(classes=tuple(ClassRule(name=name, reject_at=0.5, unsure_at=0.25) for name in names))


def make_release(version: int = 1, *, model: bytes = b"an onnx file", names: Sequence[str] = NAMES,
                 list_version: int = 1, probes: Mapping[str, bytes] | None = None,
                 **changes: object) -> tuple[Release, dict[str, Path | bytes]]:
    """Make a release document with the files it names; the model need not be a real one."""
    images = {"probe-0.jpg": b"a picture"} if probes is None else dict(probes)
    box = DetectedBox(class_id=0, confidence=0.8, x1=1.0, y1=2.0, x2=30.0, y2=40.0)
    release = Release(
        task_id=TASK, version=version, channel=CHANNEL, model_id=sha256_of(model),
        model=Artifact(path="model.onnx", sha256=sha256_of(model), size_bytes=len(model)),
        input_spec=InputSpec(width=64, height=64, head="dense"),
        class_list=ClassList(task_id=TASK, version=list_version, names=tuple(names)),
        decision_rules=rules_for(names),
        probes=tuple(Probe(artifact=Artifact(path=name, sha256=sha256_of(image), size_bytes=len(image)),
                           sample_id=sha256_of(image), expected=(box,)) for name, image in images.items()),
        lineage=Lineage(kind="origin", entered_by="a test", licence="none", reason="a test"), created_at=MADE)
    release = release.model_copy(update=changes)
    return release, {"model.onnx": model, **images}
