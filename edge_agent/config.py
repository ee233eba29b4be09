"""Read the agent's one configuration value from TOML; built once, passed in, unknown keys refused.

Relative paths are taken from the folder of the configuration file. No module of the agent reads the
environment or a file of its own; everything a part needs lies in one of the sections below.

    >>> MiningConfig(low=0.2, high=0.6).high
    0.6
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from typing_extensions import Self

from edge_agent.errors import ConfigError
from fleet_contracts.ids import ChannelName, DeviceId, PartId, TaskId

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "bmp")
Seconds = Annotated[float, Field(ge=0.0, le=86400.0)]
Some = Annotated[float, Field(gt=0.0, le=86400.0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class Section(BaseModel):
    """Be a part of the configuration: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class BrokerConfig(Section):
    """Say how the box reaches the MQTT broker."""

    host: Annotated[str, Field(min_length=1)]
    port: Annotated[int, Field(ge=1, le=65535)] = 1883
    username: str = ""
    password_file: Path | None = None
    tls: bool = False
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    keepalive_s: Annotated[int, Field(ge=5, le=3600)] = 30
    reconnect_max_s: Some = 60.0


class ReleasesConfig(Section):
    """Say where signed releases are read and which root the box trusts from the start."""

    url: Annotated[str, Field(pattern=r"^https?://.*/$")]
    """Ends with a slash; `metadata/` and `targets/` lie under it."""
    root_file: Path
    poll_s: Some = 300.0
    """How often to look without being told; an order wakes the updater at once."""
    rate_limit_kib_s: Annotated[int, Field(ge=0)] = 0
    """Limit on a model's download, 0 = none."""
    timeout_s: Some = 20.0
    self_test_s: Some = 180.0
    """Deadline of the self-test's child process."""
    confirm_frames: Annotated[int, Field(ge=0)] = 20
    """Frames a new model must inspect well before it is confirmed."""
    confirm_s: Some = 60.0
    """Time after which a new model without a failure is confirmed though fewer frames came."""


class CameraConfig(Section):
    """Say where frames come from and whether any may be skipped."""

    name: PartId = "cam0"
    source: Annotated[str, Field(min_length=1)]
    """`folder:/path`, `video:/path`, or any URL or pipeline OpenCV opens."""
    mode: Literal["every", "live"] = "every"
    follow: bool = True
    """Whether a folder is watched for new files or a lost stream opened again; else the daemon ends."""
    extensions: tuple[str, ...] = IMAGE_EXTENSIONS
    fps_limit: Annotated[float, Field(ge=0.0, le=1000.0)] = 0.0
    """Frames per second at most, 0 = none."""
    idle_exit_s: Seconds = 0.0
    """End the daemon when a followed folder had nothing new for so long, 0 = never."""


class InferenceConfig(Section):
    """Say how a model is run."""

    threads: Annotated[int, Field(ge=1, le=64)] = 1
    min_confidence: Share = 0.05
    iou: Share = 0.6


class MiningConfig(Section):
    """Say which frames are worth a person's time."""

    low: Share = 0.15
    high: Share = 0.6
    """A detection with `low` <= confidence < `high` is uncertain."""
    nothing_seen: bool = True
    random_share: Share = 0.01
    max_per_hour: Annotated[int, Field(ge=0, le=1_000_000)] = 600
    """Examples kept per hour at most, 0 = no limit; a capture command is not limited."""
    jpeg_quality: Annotated[int, Field(ge=50, le=100)] = 95
    keep_days: Annotated[int, Field(ge=1, le=3650)] = 180
    """How long the cloud may keep what this box sends."""

    @model_validator(mode="after")
    def _band_is_ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low {self.low} must not exceed high {self.high}")
        return self


class OutboxConfig(Section):
    """Bound what waits on the box for its upload."""

    quota_mb: Annotated[float, Field(gt=0.0)] = 2048.0
    free_floor_mb: Annotated[float, Field(ge=0.0)] = 512.0
    """Nothing is kept while the disk has less than this free."""
    retry_s: Some = 5.0
    """First wait before something unanswered is asked again; doubles with jitter up to sixteen times."""
    queue_frames: Annotated[int, Field(ge=1, le=1000)] = 32
    """Frames between loop and writer; at 1080p one takes 6 MB of memory."""


class ReportConfig(Section):
    """Say how often the box tells how it fares."""

    every_s: Some = 10.0


class AgentConfig(Section):
    """Hold everything the agent was told; see the sections for units."""

    task_id: TaskId
    device_id: DeviceId
    channel: ChannelName = "stable"
    data_dir: Path
    broker: BrokerConfig
    releases: ReleasesConfig
    camera: CameraConfig
    inference: InferenceConfig = InferenceConfig()
    mining: MiningConfig = MiningConfig()
    outbox: OutboxConfig = OutboxConfig()
    report: ReportConfig = ReportConfig()


def load_config(path: Path) -> AgentConfig:
    """Read a configuration file.

    Raises:
        ConfigError: no such file, not TOML, or keys wrong, missing or unknown; the message lists all.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            expected="a readable file",
            got=str(error.strerror),
            where=str(path),
            now="Give the agent's TOML file with --config.",
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(expected="TOML", got=str(error), where=str(path)) from error
    return parse_config(data, where=path)


def parse_config(data: dict[str, Any], *, where: Path) -> AgentConfig:
    """Check configuration values; relative paths are taken from the folder of `where`.

    Raises:
        ConfigError: keys wrong, missing or unknown; the message lists all.
    """
    try:
        config = AgentConfig.model_validate(data)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(step) for step in item['loc'])}: {item['msg']}"
            for item in error.errors(include_url=False)
        )
        raise ConfigError(
            expected="the agent's configuration",
            got=problems,
            where=str(where),
            now="Correct these keys; nothing was started.",
        ) from error
    return _from_folder(config, where.resolve().parent)


def _from_folder(config: AgentConfig, folder: Path) -> AgentConfig:
    """Make every path absolute; `folder / path` leaves absolute paths as they are."""

    def place(path: Path | None) -> Path | None:
        return None if path is None else folder / path

    broker = config.broker
    files = {
        name: place(getattr(broker, name)) for name in ("password_file", "ca_file", "cert_file", "key_file")
    }
    kind, _, path = config.camera.source.partition(":")
    source = f"{kind}:{folder / path}" if kind in ("folder", "video") else config.camera.source
    return config.model_copy(
        update={
            "data_dir": folder / config.data_dir,
            "broker": broker.model_copy(update=files),
            "releases": config.releases.model_copy(update={"root_file": folder / config.releases.root_file}),
            "camera": config.camera.model_copy(update={"source": source}),
        }
    )
