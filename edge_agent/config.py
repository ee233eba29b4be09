"""Read the agent's one configuration value from TOML; built once, passed in, unknown keys refused.

Relative paths are taken from the folder of the configuration file. No module of the agent reads the
environment or a file of its own; everything a part needs lies in one of the sections below.

    >>> MiningConfig(low=0.2, high=0.6).high
    0.6
"""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edge_agent.errors import ConfigError, WrongConfig
from edge_agent.settings.base import Section
from edge_agent.settings.broker import BrokerConfig
from edge_agent.settings.camera import IMAGE_EXTENSIONS, CameraConfig
from edge_agent.settings.care import CareConfig, DoctorConfig, MetricsConfig
from edge_agent.settings.cross import cross_mistakes
from edge_agent.settings.inference import InferenceConfig
from edge_agent.settings.mining import MiningConfig
from edge_agent.settings.mistakes import Mistake, mistakes_of
from edge_agent.settings.outbox import OutboxConfig
from edge_agent.settings.outputs import OutputConfig, Outputs
from edge_agent.settings.paths import place_paths, unreadable_files
from edge_agent.settings.privacy import MaskConfig, PrivacyConfig
from edge_agent.settings.releases import ReleasesConfig
from edge_agent.settings.report import ReportConfig
from edge_agent.settings.upload import UploadConfig
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
    "CareConfig",
    "DoctorConfig",
    "InferenceConfig",
    "MaskConfig",
    "MetricsConfig",
    "MiningConfig",
    "OutboxConfig",
    "OutputConfig",
    "PrivacyConfig",
    "ReleasesConfig",
    "ReportConfig",
    "Section",
    "UploadConfig",
    "load_config",
    "parse_config",
    "require_files",
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
    outputs: Outputs = ()
    upload: UploadConfig = UploadConfig()
    report: ReportConfig = ReportConfig()
    care: CareConfig = CareConfig()
    metrics: MetricsConfig = MetricsConfig()
    privacy: PrivacyConfig = PrivacyConfig()
    doctor: DoctorConfig = DoctorConfig()


def load_config(path: Path) -> AgentConfig:
    """Read a configuration file.

    Raises:
        ConfigError: no such file, or not TOML.
        WrongConfig: keys wrong, missing, unknown or not fitting each other; the message lists all.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            expected="a readable file",
            got=str(error.strerror),
            where=str(path),
            now="Give the agent's TOML file with --config.",
        ) from error
    return parse_config(_read_toml(content, path), where=path)


def parse_config(data: dict[str, Any], *, where: Path) -> AgentConfig:
    """Check configuration values; relative paths are taken from the folder of `where`.

    Raises:
        WrongConfig: keys wrong, missing, unknown or not fitting each other; the message lists all.
    """
    mistakes: tuple[Mistake, ...] = ()
    try:
        config = AgentConfig.model_validate(data)
        sections = {name: getattr(config, name) for name in AgentConfig.model_fields}
    except ValidationError as error:
        config = None
        mistakes = mistakes_of(error, AgentConfig)
        sections = _sound_sections(data)
    mistakes = tuple(sorted((*mistakes, *cross_mistakes(sections)), key=lambda mistake: mistake.key))
    if config is None or mistakes:
        raise WrongConfig(mistakes, where=str(where))
    return _from_folder(config, where.resolve().parent)


def require_files(config: AgentConfig, *, where: Path) -> None:
    """Check that the secrets and certificates the configuration names can be read.

    Raises:
        WrongConfig: some cannot; the message lists all.
    """
    mistakes = unreadable_files(config)
    if mistakes:
        raise WrongConfig(mistakes, where=str(where))


def _read_toml(content: bytes, path: Path) -> dict[str, Any]:
    try:
        # A byte order mark is what Windows editors leave; it says nothing.
        return tomllib.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            expected="a text file in UTF-8",
            got=f"byte {error.start} is not",
            where=f"{path}, line {line}",
            now="Save the file as UTF-8.",
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            expected="TOML", got=str(error), where=str(path), now="Correct this line; nothing was started."
        ) from error


def _sound_sections(data: dict[str, Any]) -> dict[str, Any]:
    """Return the sections that are right by themselves, so that rules across sections have their say too."""
    sound: dict[str, Any] = {}
    for name, field in AgentConfig.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            with suppress(ValidationError):
                sound[name] = kind.model_validate(data.get(name, {}))
    return sound


def _from_folder(config: AgentConfig, folder: Path) -> AgentConfig:
    """Make every path absolute, the one within the camera's source too."""
    placed: AgentConfig = place_paths(config, folder)
    kind, _, path = config.camera.source.partition(":")
    if kind not in ("folder", "video"):
        return placed
    camera = placed.camera.model_copy(update={"source": f"{kind}:{folder / path}"})
    return placed.model_copy(update={"camera": camera})
