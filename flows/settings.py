"""Hold the settings of one installation: `<folder>/whetstone.toml`, read once and passed in.

Unknown keys are errors and all errors are told at once. Paths in the file may be relative to the
folder; `Context.path` resolves them. Secrets lie in files of their own that are named here, all but one: the
database's URL may hold a password. So the file is its owner's alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tomli_w
import tomllib
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from typing_extensions import Self

from detection.metrics.thresholds import ThresholdOptions
from fleet_contracts.ids import ChannelName, DeviceId, TaskId
from fleet_contracts.samples import ClassName, Region, require_different_names
from flows.errors import SettingsError, UnknownTask
from flows.files import write_file
from trainer.gate.settings import GateSettings

FILE_NAME = "whetstone.toml"
Port = Annotated[int, Field(ge=1, le=65535)]
Positive = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """Be a part of the settings: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class StoreSettings(Section):
    """Say where the object store is. Addresses are `host:port`, without a scheme."""

    endpoint: str = "127.0.0.1:9000"
    public_endpoint: str = ""
    """The address boxes reach the store by; presigned URLs are signed for it. Empty: as `endpoint`."""
    secure: bool = False
    region: str = "us-east-1"
    bucket: str = "whetstone"
    credentials_file: Path = Path("secrets/store.json")
    """JSON with `access_key` and `secret_key`."""


class BrokerSettings(Section):
    """Say where the MQTT broker is; the password file holds one line."""

    host: str = "127.0.0.1"
    port: Port = 1883
    username: str = ""
    password_file: Path | None = None
    tls: bool = False
    ca_file: Path | None = None
    cert_file: Path | None = None
    """Own certificate, where the broker wants one; its common name is `whetstone-cloud` in our ACL."""
    key_file: Path | None = None


class DatabaseSettings(Section):
    """Say where the database is, with a password if need be; empty means `<folder>/whetstone.db` (SQLite)."""

    url: str = ""


class ReleaseSettings(Section):
    """Say under which URL boxes read releases (it ends with a slash), and where the signing keys lie."""

    public_url: str = "http://127.0.0.1:8080/"
    keys_folder: Path = Path("secrets/release-keys")


class PrefectSettings(Section):
    """Say where the Prefect server's API is."""

    api_url: str = "http://127.0.0.1:4200/api"


class LabelSettings(Section):
    """Say where label files arrive: `<folder>/<task>/*.txt`."""

    folder: Path = Path("labels")
    poll_seconds: Annotated[float, Field(gt=0)] = 5.0
    settle_seconds: Annotated[float, Field(ge=0)] = 0.5
    """Age below which a file may still be written and is left for the next look."""


class RecipeSettings(Section):
    """Say how runs of a task train. Sizes in pixels; `replay_limit` caps imported members of a snapshot."""

    name: str = "fine-tune"
    epochs: Positive = 8
    batch: Positive = 16
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    image_size: Annotated[int, Field(ge=32, le=4096, multiple_of=32)] = 320
    freeze_layers: Annotated[int, Field(ge=0)] = 0
    augmentation: Literal["none", "light", "full"] = "light"
    replay_limit: Annotated[int, Field(ge=0)] = 400
    seed: int = 0
    threads: Annotated[int, Field(ge=0)] = 0
    """0 leaves the choice to the trainer."""
    cache: Literal["none", "ram", "disk"] = "ram"


class RegionSettings(Region):
    """Mark a part of the frame where findings count or do not; see `Region`. Unknown keys are refused."""

    model_config = ConfigDict(extra="forbid")


class DecisionSettings(Section):
    """Say by what, beside thresholds, parts are judged: in the gate, and with the release on every box."""

    min_frames: Positive = 1
    """Frames of a part that must show a defect before it counts; a part with fewer must show it in all."""
    min_area_px: dict[ClassName, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = Field(
        default_factory=dict
    )
    """Least area of a box by class, in pixels of the camera's frame; smaller ones do not count."""
    regions: tuple[RegionSettings, ...] = ()
    """Where in the frame findings count: polygons in shares of it, for one camera or for all."""

    @model_validator(mode="after")
    def _regions_fit_the_rules(self) -> Self:
        require_different_names(self.regions)
        return self

    def options(self) -> ThresholdOptions:
        """Return how the gate chooses decision rules."""
        return ThresholdOptions(
            min_frames=self.min_frames, min_area_px=self.min_area_px, regions=self.regions
        )


class TaskSettings(Section):
    """Hold everything about one task: one model on one kind of part."""

    channel: ChannelName = "stable"
    image_size: Annotated[int, Field(ge=32, le=4096, multiple_of=32)] = 320
    trigger_threshold: Positive = 100
    """Verified new labels since the champion's snapshot that ask for a run."""
    devices: tuple[DeviceId, ...] = ()
    keep_days: Positive = 365
    val_share: Annotated[float, Field(gt=0, lt=0.5)] = 0.15
    golden_share: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """Share of mined groups that become golden for good; imported data states its own."""
    max_refused_share: Annotated[float, Field(ge=0, le=1)] = 0.02
    """Share of refused label files above which no snapshot is cut."""
    recipe: RecipeSettings = RecipeSettings()
    gate: GateSettings = GateSettings()
    decision: DecisionSettings = DecisionSettings()


class Settings(Section):
    """Hold the settings of one installation."""

    store: StoreSettings = StoreSettings()
    broker: BrokerSettings = BrokerSettings()
    database: DatabaseSettings = DatabaseSettings()
    releases: ReleaseSettings = ReleaseSettings()
    prefect: PrefectSettings = PrefectSettings()
    labels: LabelSettings = LabelSettings()
    tasks: dict[TaskId, TaskSettings] = Field(default_factory=dict)
    grant_minutes: Positive = 15
    sweep_seconds: Annotated[float, Field(gt=0)] = 20.0

    def task(self, task_id: str) -> TaskSettings:
        """Return a task's settings.

        Raises:
            UnknownTask: this installation serves no such task.
        """
        found = self.tasks.get(task_id)
        if found is None:
            raise UnknownTask(
                expected=f"one of the tasks {sorted(self.tasks)}",
                got=repr(task_id),
                where=FILE_NAME,
                now="Create it with 'whetstone task create'.",
            )
        return found

    def with_task(self, task_id: str, task: TaskSettings) -> Settings:
        """Return these settings with a task added or replaced, checked again as a whole."""
        return Settings.model_validate({**self.model_dump(), "tasks": {**self.tasks, task_id: task}})


def load_settings(folder: Path) -> Settings:
    """Read the settings of the installation in `folder`.

    Raises:
        SettingsError: no such file, not TOML, or keys unknown, missing or out of range (all are listed).
    """
    path = folder / FILE_NAME
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingsError(
            expected="an installation's settings",
            got="no such file",
            where=str(path),
            now="Run 'whetstone up --folder FOLDER' first, or give the right folder.",
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(expected="TOML", got=str(error), where=str(path)) from error
    try:
        return Settings.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(step) for step in item['loc'])}: {item['msg']}"
            for item in error.errors(include_url=False)
        )
        raise SettingsError(
            expected="known settings within their limits", got=problems, where=str(path)
        ) from error


def write_settings(folder: Path, settings: Settings) -> None:
    """Write the settings for their owner alone; a reader sees the old file or the new one, never half."""
    content = tomli_w.dumps(settings.model_dump(mode="json", exclude_none=True))
    write_file(folder / FILE_NAME, content.encode(), mode=0o600)
