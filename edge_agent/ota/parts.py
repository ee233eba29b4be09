"""Hold what an updater is made of and what it says of itself; tests put twins of the parts here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from detection.session import Detector, DetectorOptions
from edge_agent.config import AgentConfig
from edge_agent.errors import ConfigError
from edge_agent.model_slot import FrameModel
from edge_agent.ota.disk import Disk
from edge_agent.ota.self_test import ChildSelfTest, SelfTest
from edge_agent.ota.server import HttpServer, ReleaseServer
from edge_agent.ota.serving import LoadModel
from fleet_contracts.releases import DeviceState, RolloutOrder


@dataclass(frozen=True, slots=True)
class OtaState:
    """Say for a report what serves and how the last update fared."""

    release_version: int
    model_id: str | None
    state: DeviceState
    rollout_id: str
    problem: str
    metadata_expired: bool


@dataclass(frozen=True, slots=True)
class Standing:
    """Hold how the updater stands; replaced as a whole, so that a report never mixes two moments.

    A report that joined a new order with an old rollback would end a rollout that never began.

    Attributes:
        order: the one that is followed.
        busy: an installation is under way.
        rolled_back: the release that should serve failed here.
        degraded: the other side gives what was not signed.
        expired: the last metadata was past its life.
        problem: in words, or "".
    """

    order: RolloutOrder | None = None
    busy: bool = False
    rolled_back: bool = False
    degraded: bool = False
    expired: bool = False
    problem: str = ""


@dataclass(frozen=True, slots=True)
class OtaParts:
    """Hold the outside world of an updater."""

    server: ReleaseServer
    disk: Disk
    self_test: SelfTest
    load: LoadModel

    @classmethod
    def real(cls, config: AgentConfig) -> OtaParts:
        """Return the parts a box runs with."""
        options = DetectorOptions(threads=config.inference.threads, iou=config.inference.iou,
                                  min_confidence=config.inference.min_confidence)

        def load(path: Path) -> FrameModel:
            detector = Detector.load(path, options=options)
            detector.warm_up()
            return detector

        releases = config.releases
        server = HttpServer(releases.url, gap_s=releases.timeout_s, ca_file=releases.ca_file)
        return cls(server, Disk(), ChildSelfTest(releases.self_test_s, config.inference.threads), load)


def read_root(path: Path) -> bytes:
    """Read the root that the box trusts from the start.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(expected="the root metadata this box trusts", got=str(error.strerror),
                          where=str(path),
                          now="Copy trusted_root.json from the cloud side's keys folder.") from error
