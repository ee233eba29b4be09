"""Describe one training run: its data, plan, ticket, record and outcome."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from fleet_contracts.base import Count, Share, UtcTime, Value, WireDocument
from fleet_contracts.ids import ModelId, RunId, SampleId, Sha256, SnapshotId
from fleet_contracts.samples import BoxLabel, ClassList

Split = Literal["train", "val", "golden"]
Precision = Literal["fp32", "fp16", "int8"]
RunEventKind = Literal[
    "started", "resumed", "epoch", "rung", "watch", "rollback", "exported", "finished", "failed"
]
Positive = Annotated[int, Field(ge=1)]


class SnapshotHeader(WireDocument):
    """Open a manifest: first line of `manifest.jsonl`, followed by one `SnapshotMember` a line."""

    class_list: ClassList
    parent_snapshot: SnapshotId | None = None
    members: Count
    policy: dict[str, JsonValue] = Field(default_factory=dict)
    """How members were chosen and split, so that a person can repeat it."""


class SnapshotMember(Value):
    """Hold one sample of a snapshot with the labels as they were when it was cut.

    `group_id` names the near-duplicate cluster or burst; a group never spans two splits.
    `class_list_version` says which classes the labels speak of: nothing is known about later ones.
    """

    sample_id: SampleId
    split: Split
    group_id: str
    label_revision: Positive
    class_list_version: Positive
    class_count: Positive
    verified: bool
    source: Literal["human", "teacher", "operator"]
    boxes: tuple[BoxLabel, ...]
    width: Positive
    height: Positive
    size_bytes: Positive
    origin: Literal["mined", "import", "capture"] = "mined"
    slices: dict[str, str] = Field(default_factory=dict)
    camera: str = ""
    """The camera that took it, where one is known: decision regions may hold for one camera alone."""


class GpuOffer(Value):
    """Describe a machine that could be rented; prices in US dollars per hour, None when unknown.

    `cpu_count`, `memory_mib` and `disk_mib` are the machine's own cores, memory and disk, 0 when unknown.
    """

    provider: str
    offer_id: str
    gpu: str
    gpu_count: Count
    gpu_memory_mib: Count
    on_demand_price: Annotated[float, Field(ge=0.0)] | None = None
    spot_price: Annotated[float, Field(gt=0.0)] | None = None
    region: str = ""
    price_source: str = ""
    priced_at: UtcTime
    cpu_count: Count = 0
    memory_mib: Count = 0
    disk_mib: Count = 0


class VramEstimate(Value):
    """Hold the predicted peak of one device in bytes and the terms it is the sum of.

    `moment` names when the peak comes (forward, loss, backward, optimizer, validation). `confirmed` is true
    only where measured runs on a GPU calibrated it; `calibration` names them.
    """

    terms: dict[str, Count]
    peak_bytes: Count
    moment: str = ""
    confirmed: bool = False
    calibration: str = ""
    learned: Annotated[float, Field(gt=0.0)] = 1.0
    """By what finished runs made the planner multiply it; the terms hold it already."""


class TrainStage(Value):
    """Train `epochs` epochs at one square image size (pixels) and batch size (images over all devices).

    `accumulation` None takes the plan's.
    """

    image_size: Annotated[int, Field(ge=32, le=4096, multiple_of=32)]
    epochs: Positive
    batch: Positive
    accumulation: Positive | None = None
    augmentation: Literal["none", "light", "full", "heavy"] = "light"
    vram: VramEstimate | None = None


class MemoryPolicy(Value):
    """Say how far a run may go down when memory runs out; sizes and models change what ships.

    `smaller_images` are the image sizes that may be gone down to, largest first; `least_batch` the smallest
    batch per device.
    """

    allow_mix_off: bool = True
    smaller_images: tuple[Annotated[int, Field(ge=32, le=4096, multiple_of=32)], ...] = ()
    smaller_models: tuple[str, ...] = ()
    least_batch: Positive = 1
    most_rungs: Positive = 12


class WatchPolicy(Value):
    """Say when a run counts as held back, and how far it may help itself; shares from 0 to 1.

    `low_utilisation` is the GPU use that alarms, `high_wait` the share of step time spent on waiting for
    data, `near_limit` the share of memory, each when it lasts for `long_seconds`. `most_workers` None takes
    what the machine's cores allow.
    """

    low_utilisation: Share = 0.6
    high_wait: Share = 0.15
    near_limit: Share = 0.95
    long_seconds: Annotated[float, Field(gt=0.0)] = 60.0
    most_workers: Count | None = None
    allow_cache: bool = True
    allow_batch: bool = True
    most_cures: Count = 6


class Considered(Value):
    """Hold one way to train that the planner looked at, and why it lost; seconds and dollars.

    `gpu_count` is how many devices would be used, `batch` the last stage's over all of them. A rate or time
    of 0 is unknown; `basis` says where the rate is from.
    """

    gpu: str
    gpu_count: Count
    provider: str = ""
    offer_id: str = ""
    spot: bool = False
    precision: str = ""
    batch: Count = 0
    accumulation: Count = 0
    peak_bytes: Count = 0
    images_per_second: float = 0.0
    seconds: float = 0.0
    basis: str = ""
    cost: float | None = None
    chosen: bool = False
    why: str = ""


class Prediction(Value):
    """Hold what the planner expects of a run; seconds, dollars, images over all devices.

    `seconds` is everything from launch to result, `train_seconds` the epochs alone.
    """

    seconds: float
    train_seconds: float = 0.0
    images_per_second: float
    cost: float | None = None
    basis: Literal["measured", "modelled"] = "modelled"
    vram_confirmed: bool = False


class Tracking(Value):
    """Say where a run is tracked besides its record; never a secret, those come from the environment.

    `run_id` is our run's name there, `first_epoch` how many epochs came before this job's; whoever makes a
    job of a plan fills them in.
    """

    mlflow_uri: str = ""
    mlflow_experiment: str = ""
    wandb_project: str = ""
    wandb_mode: Literal["online", "offline"] = "online"
    run_id: str = ""
    first_epoch: Count = 0


class StartWeights(Value):
    """Say which weights a run starts from: the champion or a registered origin, nothing else (law 5)."""

    kind: Literal["champion", "origin"]
    sha256: Sha256
    key: str
    model_id: ModelId | None = None


class TrainPlan(WireDocument):
    """Fix everything about a run before anything is rented. Times in seconds, prices in dollars."""

    run_id: RunId
    snapshot_id: SnapshotId
    start: StartWeights
    class_list: ClassList
    recipe: str
    stages: Annotated[tuple[TrainStage, ...], Field(min_length=1)]
    accumulation: Positive = 1
    amp: bool = False
    optimizer: str = "AdamW"
    learning_rate: Annotated[float, Field(gt=0.0)] = 1e-3
    final_lr_share: Share = 0.05
    freeze_layers: Count = 0
    cache: Literal["none", "ram", "disk"] = "ram"
    workers: Count = 0
    threads: Count = 0
    seed: int = 0
    vram: VramEstimate | None = None
    offer: GpuOffer | None = None
    price_cap: Annotated[float, Field(ge=0.0)] = 0.0
    deadline: UtcTime | None = None
    opset: int = 17
    tier: Literal["smoke", "fine-tune", "full"] = "fine-tune"
    devices: Positive = 1
    compile: bool = False
    deterministic: bool = False
    validate_every: Count = 0
    """Epochs between two measurements of the loss on the validation split; 0 measures none."""
    checkpoint_minutes: Annotated[float, Field(ge=0.0)] = 0.0
    """Minutes after which a checkpoint is written within an epoch too; 0 writes at epochs only."""
    memory_policy: MemoryPolicy = MemoryPolicy()
    watch: WatchPolicy = WatchPolicy()
    precisions: tuple[Precision, ...] = ("fp32",)
    """Number formats to export and judge, each as a file of its own."""
    format_seconds: Annotated[float, Field(gt=0.0)] = 45.0
    """What making one of them may take: longer means more layers tried in full precision."""
    tracking: Tracking | None = None
    predicted: Prediction | None = None
    considered: tuple[Considered, ...] = ()
    spot: bool = False
    """Whether the offer is taken at its spot price: cheaper, and it may be taken away at any moment."""
    most_images: Count = 0
    """Training images a smoke test is content with; 0 takes all."""
    reasons: tuple[str, ...] = ()
    """Why the plan is as it is, for people."""


class TicketObject(Value):
    """Point at one object a trainer may read, with the hash it must have."""

    name: str
    url: str
    sha256: Sha256
    size_bytes: Count


class TrainTicket(WireDocument):
    """Carry all a trainer needs, wherever it starts: presigned URLs and no key (a secret all the same)."""

    run_id: RunId
    plan_url: str
    manifest_url: str
    shards: tuple[TicketObject, ...]
    start_weights: TicketObject
    put_urls: dict[str, str]
    """Presigned PUTs for the fixed set of object names in `keys.RUN_OUTPUTS` and event segments."""
    get_urls: dict[str, str]
    """Presigned GETs for the same names, to resume from."""
    renew_url: str
    """Presigned GET of this ticket's own object, which the flow rewrites before `expires_at`."""
    claim_url: str = ""
    """The same, as short-lived as this ticket: all that a rented machine is started with."""
    expires_at: UtcTime


class EpochMetrics(Value):
    """Hold what one epoch measured; losses as ultralytics names them, data wait as a share of step time."""

    epoch: Count
    seconds: float
    images_per_second: float
    learning_rate: float
    losses: dict[str, float]
    val: dict[str, float] = Field(default_factory=dict)
    peak_memory_bytes: Count = 0
    data_wait_share: Share = 0.0
    utilisation: Share | None = None
    """Mean share of the time the GPU (or, without one, the allowed processor cores) was busy."""
    power_watts: float | None = None
    image_size: Count = 0
    batch: Count = 0
    accumulation: Count = 0
    workers: Count = 0


class DataFlow(Value):
    """Hold how the data came from the bucket: bytes from cache and network, and seconds waited for them."""

    cached_bytes: Count = 0
    fetched_bytes: Count = 0
    wait_seconds: float = 0.0

    @property
    def hit_rate(self) -> float:
        """Return the share of bytes that were there already."""
        return self.cached_bytes / max(self.cached_bytes + self.fetched_bytes, 1)


class RunEvent(WireDocument):
    """Report one step of a run; event segment N is the object that holds event N."""

    run_id: RunId
    number: Count
    at: UtcTime
    kind: RunEventKind
    epoch: Count = 0
    data: dict[str, JsonValue] = Field(default_factory=dict)


class RunRecord(WireDocument):
    """Keep how a run went, for people and for the planner."""

    run_id: RunId
    snapshot_id: SnapshotId
    state: Literal["running", "finished", "failed"]
    seed: int
    versions: dict[str, str]
    device: str
    started_at: UtcTime
    ended_at: UtcTime | None = None
    epochs: tuple[EpochMetrics, ...] = ()
    rungs: tuple[RunEvent, ...] = ()
    resumes: tuple[RunEvent, ...] = ()
    watch: tuple[RunEvent, ...] = ()
    """What the watch diagnosed and cured, and losses that were rolled back."""
    vram: VramEstimate | None = None
    data_flow: DataFlow | None = None
    cost: float = 0.0
    failure: str = ""


class Lease(WireDocument):
    """Own a rented machine: recorded before the launch call (law 8).

    `asked_at` is when the provider was last asked to launch: after it a machine may exist though no answer
    came. `price` is what was agreed in dollars an hour, None when nobody knows; `cost` is settled at the end.
    """

    lease_id: str
    run_id: RunId
    provider: str
    offer: GpuOffer
    price_cap: float
    deadline: UtcTime
    state: Literal["recorded", "launched", "ended"]
    machine: str = ""
    recorded_at: UtcTime
    ended_at: UtcTime | None = None
    end_reason: str = ""
    spot: bool = False
    price: Annotated[float, Field(ge=0.0)] | None = None
    asked_at: UtcTime | None = None
    launched_at: UtcTime | None = None
    cost: Annotated[float, Field(ge=0.0)] | None = None
