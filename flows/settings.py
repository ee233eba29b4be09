"""Hold the settings of one installation: `<folder>/whetstone.toml`, read once and passed in.

Unknown keys are errors and all errors are told at once. Paths in the file may be relative to the
folder; `Context.path` resolves them. Secrets lie in files of their own that are named here, all but one: the
database's URL may hold a password. So the file is its owner's alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, urlsplit

import tomli_w
import tomllib
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from typing_extensions import Self

from detection.metrics.thresholds import ThresholdOptions
from fleet_contracts.ids import ChannelName, DeviceId, TaskId
from fleet_contracts.samples import ClassName, Region, require_different_names
from fleet_contracts.training import MemoryPolicy, Precision, WatchPolicy
from flows.errors import SettingsError, UnknownTask
from flows.files import write_file
from flows.gpus.settings import Name, ProviderSettings
from flows.wrong_settings import problems_of, worded
from trainer.gate.settings import GateSettings

FILE_NAME = "whetstone.toml"
Port = Annotated[int, Field(ge=1, le=65535)]
Positive = Annotated[int, Field(ge=1)]
ImageSize = Annotated[int, Field(ge=32, le=4096, multiple_of=32)]
Augmentation = Literal["none", "light", "full", "heavy"]
_SECRET_WORDS = ("password", "token", "secret")


class Section(BaseModel):
    """Be a part of the settings: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class StoreSettings(Section):
    """Say where the object store is. Addresses are `host:port`, without a scheme."""

    endpoint: str = "127.0.0.1:9000"
    public_endpoint: str = ""
    """The address boxes reach the store by; presigned URLs are signed for it. Empty: as `endpoint`."""
    secure: bool = False
    public_secure: bool | None = None
    """Whether `public_endpoint` speaks TLS, where that differs from `secure`."""
    address_style: Literal["auto", "path", "virtual"] = "auto"
    """Where the bucket's name stands: in the path, or in front of the host as Alibaba Cloud OSS demands. By
    itself that is so for amazonaws.com and aliyuncs.com; behind a name of your own, say it."""
    private_network: bool = False
    """Whether rented machines are in a network of yours, where private addresses and plain http will do."""
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
    at_once: Positive = 1
    """Retrainings of one tier at a time, over all tasks; more than one pays where machines are rented."""


class LabelSettings(Section):
    """Say where label files arrive: `<folder>/<task>/*.txt`."""

    folder: Path = Path("labels")
    poll_seconds: Annotated[float, Field(gt=0)] = 5.0
    settle_seconds: Annotated[float, Field(ge=0)] = 0.5
    """Age below which a file may still be written and is left for the next look."""


class TrackingSettings(Section):
    """Say where runs are tracked besides their record. Passwords and tokens never stand here.

    MLflow without a URI is a file in the installation's folder. `wandb_mode` offline writes W&B's files into
    the run's work folder, to be sent by `wandb sync`.
    """

    mlflow: bool = True
    """Track with MLflow where its package is installed."""
    mlflow_uri: str = ""
    mlflow_experiment: str = ""
    """One experiment for every task; by default each task has its own, `whetstone/<task>`."""
    credentials_file: Path | None = None
    """JSON with `username` and `password`, or `token`; MLFLOW_TRACKING_... in the environment come first."""
    wandb_project: str = ""
    wandb_mode: Literal["online", "offline"] = "online"

    @model_validator(mode="after")
    def _uri_is_a_stores_without_a_secret(self) -> Self:
        if not self.mlflow_uri:
            return self
        parts = urlsplit(self.mlflow_uri)
        if parts.password is not None or (parts.username and parts.scheme in ("http", "https")):
            raise ValueError("mlflow_uri holds a user or password; they belong into credentials_file")
        if any(word in name.lower() for name, _ in parse_qsl(parts.query) for word in _SECRET_WORDS):
            raise ValueError(
                "mlflow_uri holds a password or token behind its '?'; it belongs into credentials_file"
            )
        scheme = parts.scheme.split("+")[0]
        if scheme not in ("http", "https", "sqlite", "postgresql", "mysql", "databricks"):
            raise ValueError(
                f"mlflow_uri has the scheme {scheme!r}; MLflow takes a server's http(s) URL or a database's,"
                " such as sqlite:////folder/mlflow.db (its folders of files are in maintenance mode)"
            )
        if scheme == "sqlite" and not parts.path.startswith("//"):
            raise ValueError("mlflow_uri names a relative file: every process would have its own")
        return self


class StageSettings(Section):
    """Say how one stage of a training goes; size in pixels."""

    image_size: ImageSize
    epochs: Positive
    augmentation: Augmentation = "light"


class MemorySettings(MemoryPolicy):
    """Say how far a run may go down when memory runs out; see `MemoryPolicy`. Unknown keys are refused."""

    model_config = ConfigDict(extra="forbid")


class WatchSettings(WatchPolicy):
    """Say when a run counts as held back and how far it may help itself; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid")


class RecipeSettings(Section):
    """Say how runs of a task train. Sizes in pixels; `replay_limit` caps imported members of a snapshot.

    `name` chooses stages and tier where nothing below does: fine-tune, fine-tune-frozen, full, progressive
    or smoke; any other name trains as fine-tune does.
    """

    name: str = "fine-tune"
    epochs: Positive = 8
    batch: Positive = 16
    """The effective batch: what a step of the optimizer sees, over all devices and accumulated steps."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    image_size: ImageSize = 320
    freeze_layers: Annotated[int, Field(ge=0)] = 0
    augmentation: Augmentation = "light"
    replay_limit: Annotated[int, Field(ge=0)] = 400
    seed: int = 0
    threads: Annotated[int, Field(ge=0)] = 0
    """0 leaves the choice to the planner."""
    cache: Literal["none", "ram", "disk"] = "ram"
    """The most that is cached; the planner takes less where it does not fit."""
    tier: Literal["auto", "smoke", "fine-tune", "full"] = "auto"
    stages: tuple[StageSettings, ...] = ()
    """Stages in place of the name's; the last one trains at `image_size`, and `epochs` is their sum."""
    final_lr_share: Annotated[float, Field(ge=0, le=1)] = 0.05
    optimizer: Literal["AdamW", "SGD", "Adam", "MuSGD"] = "AdamW"
    amp: bool = True
    compile: Literal["off", "auto", "on"] = "off"
    deterministic: bool = False
    workers: Annotated[int, Field(ge=0)] | None = None
    """Data workers of each device; without a number the planner chooses."""
    validate_every: Annotated[int, Field(ge=0)] = 0
    """Epochs between two measurements of the loss on the validation split; 0 measures none."""
    checkpoint_minutes: Annotated[float, Field(ge=0)] = 0.0
    """Minutes after which a checkpoint is written within an epoch too; 0 writes at epochs only."""
    memory: MemorySettings = MemorySettings()
    watch: WatchSettings = WatchSettings()
    precisions: Annotated[tuple[Precision, ...], Field(min_length=1)] = ("fp32",)
    """Number formats to export, each judged as a file of its own."""
    format_seconds: Annotated[float, Field(gt=0, le=3600)] = 45.0
    """What making one of them may take; longer means more layers tried in full precision."""

    @model_validator(mode="after")
    def _stages_end_at_the_target(self) -> Self:
        if self.stages and self.stages[-1].image_size != self.image_size:
            raise ValueError(
                f"the last stage has {self.stages[-1].image_size} px; it has to train at image_size"
                f" {self.image_size}, which is what ships"
            )
        return self

    def naming(self) -> dict[str, Any]:
        """Return what names a run of this recipe: a key added later counts only where it is set.

        So runs keep the names they had before the key existed, and are found again under them.
        """
        changed = self.model_dump(mode="json", exclude_defaults=True)
        whole = self.model_dump(mode="json", include=_FIRST_RECIPE_KEYS)
        return {**whole, **changed}


_FIRST_RECIPE_KEYS = {
    "name", "epochs", "batch", "learning_rate", "image_size", "freeze_layers", "augmentation", "replay_limit",
    "seed", "threads", "cache",
}  # fmt: skip
"""Keys that have named runs from the first version on; never add one."""


class LimitSettings(Section):
    """Bound a task's runs, each one for itself; what is not set bounds nothing.

    Without `hours` a smoke test gets 2, a fine-tune 6, a full training 24.
    """

    hours: Annotated[float, Field(gt=0, le=240)] | None = None
    dollars: Annotated[float, Field(ge=0)] | None = None
    dollars_per_hour: Annotated[float, Field(ge=0)] | None = None
    spot: bool = False
    """Whether machines may be taken that the seller can take away at any moment."""


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
    max_miss_rate: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of bad parts that may be accepted; thresholds for unsure are lowered until the data show it."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """With which the data must show it."""

    @model_validator(mode="after")
    def _regions_fit_the_rules(self) -> Self:
        require_different_names(self.regions)
        return self

    def options(self) -> ThresholdOptions:
        """Return how the gate chooses decision rules."""
        return ThresholdOptions(
            min_frames=self.min_frames,
            min_area_px=self.min_area_px,
            regions=self.regions,
            max_miss_rate=self.max_miss_rate,
            confidence=self.confidence,
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
    limits: LimitSettings = LimitSettings()
    gate: GateSettings = GateSettings()
    decision: DecisionSettings = DecisionSettings()

    @model_validator(mode="after")
    def _what_ships_is_exported(self) -> Self:
        missing = sorted(set(self.gate.ship) - {"fp32", *self.recipe.precisions})
        if missing:
            raise ValueError(
                f"gate.ship names {missing}, which recipe.precisions {list(self.recipe.precisions)} does"
                " not export"
            )
        return self


class MoneySettings(Section):
    """Bound what all runs together may cost in dollars, 0 for no bound; each has its task's limits too."""

    per_month: Annotated[float, Field(ge=0)] = 0.0
    warn_share: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Share of a bound from which on a person is warned."""


Installation = Annotated[
    str, worded(r"([a-z][a-z0-9]{0,11})?", "up to 12 small letters and digits, a letter first")
]


class Settings(Section):
    """Hold the settings of one installation."""

    # A token put where its place belongs must not show in a traceback.
    model_config = ConfigDict(hide_input_in_errors=True)
    installation: Installation = ""
    """Up to 12 lower case letters and digits that its rented machines are known by."""
    store: StoreSettings = StoreSettings()
    broker: BrokerSettings = BrokerSettings()
    database: DatabaseSettings = DatabaseSettings()
    releases: ReleaseSettings = ReleaseSettings()
    prefect: PrefectSettings = PrefectSettings()
    labels: LabelSettings = LabelSettings()
    tracking: TrackingSettings = TrackingSettings()
    money: MoneySettings = MoneySettings()
    train_here: bool = True
    """Whether runs may train on this machine; it costs nothing, so it is taken wherever it is in time."""
    providers: dict[Name, ProviderSettings] = Field(default_factory=dict)
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
        raise SettingsError(
            expected="known settings within their limits", got=problems_of(error, Settings), where=str(path)
        ) from error


def write_settings(folder: Path, settings: Settings) -> None:
    """Write the settings for their owner alone; a reader sees the old file or the new one, never half."""
    content = tomli_w.dumps(settings.model_dump(mode="json", exclude_none=True))
    write_file(folder / FILE_NAME, content.encode(), mode=0o600)
