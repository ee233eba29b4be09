"""Read the agent's one configuration value from TOML; built once, passed in, unknown keys refused.

Relative paths are taken from the folder of the configuration file. No module of the agent reads the
environment or a file of its own; everything a part needs lies in one of the sections below.

    >>> MiningConfig(low=0.2, high=0.6).high
    0.6
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edge_agent.errors import ConfigError
from edge_agent.settings.base import Section
from edge_agent.settings.broker import BrokerConfig
from edge_agent.settings.camera import IMAGE_EXTENSIONS, CameraConfig
from edge_agent.settings.inference import InferenceConfig
from edge_agent.settings.mining import MiningConfig
from edge_agent.settings.outbox import OutboxConfig
from edge_agent.settings.releases import ReleasesConfig
from edge_agent.settings.report import ReportConfig
from fleet_contracts.ids import ChannelName, DeviceId, TaskId

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


__all__ = [
    "IMAGE_EXTENSIONS",
    "AgentConfig",
    "BrokerConfig",
    "CameraConfig",
    "InferenceConfig",
    "MiningConfig",
    "OutboxConfig",
    "ReleasesConfig",
    "ReportConfig",
    "Section",
    "load_config",
    "parse_config",
]


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
