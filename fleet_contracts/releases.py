"""Describe what boxes are told to run and what they say about it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fleet_contracts.base import Count, UtcTime, Value, WireDocument
from fleet_contracts.ids import ChannelName, DeviceId, ModelId, RunId, SampleId, Sha256, SnapshotId
from fleet_contracts.judging import InputSpec
from fleet_contracts.samples import ClassList, DecisionRules, DetectedBox
from fleet_contracts.training import Precision

Version = Annotated[int, Field(ge=1)]
RolloutState = Literal["waiting", "rolling", "done", "rolled_back", "failed"]
DeviceState = Literal["starting", "serving", "updating", "rolled_back", "degraded", "offline"]


class Artifact(Value):
    """Name one file of a release; `path` is relative to the release's TUF folder."""

    path: str
    sha256: Sha256
    size_bytes: Count


class Probe(Value):
    """Hold one self-test image: what the cloud's run of the same ONNX file detected on it, in pixels."""

    artifact: Artifact
    sample_id: SampleId
    expected: tuple[DetectedBox, ...]


class Lineage(Value):
    """Say where a model comes from: a run on a snapshot, or an origin somebody entered."""

    kind: Literal["run", "origin"]
    run_id: RunId | None = None
    snapshot_id: SnapshotId | None = None
    parent_model: ModelId | None = None
    entered_by: str = ""
    licence: str = ""
    reason: str = ""


class Release(WireDocument):
    """Describe one signed release of a task on a channel."""

    version: Version
    channel: ChannelName
    model_id: ModelId
    model: Artifact
    input_spec: InputSpec
    class_list: ClassList
    decision_rules: DecisionRules
    probes: tuple[Probe, ...]
    min_agent: str = "0.1.0"
    device_classes: tuple[str, ...] = ("any",)
    lineage: Lineage
    precision: Precision = "fp32"
    """Number format of the model file, which is the very file the gate judged."""
    created_at: UtcTime


class ChannelPolicy(WireDocument):
    """List what a channel allows; signed by the channel role, so an order can only choose among these."""

    channel: ChannelName
    allowed: tuple[Version, ...]
    lowest_allowed: Version
    latest: Version


class RolloutOrder(WireDocument):
    """Tell a device which release it should run: a hint; the box trusts the signed channel alone."""

    device_id: DeviceId
    rollout_id: str
    channel: ChannelName
    release_version: Version
    issued_at: UtcTime


class SwapReport(Value):
    """Say how a swap went: wait between the last frame of the old and the first of the new model."""

    from_version: Count
    to_version: Version
    swapped_at: UtcTime
    gap_ms: float
    frames_dropped: Count


class Vitals(Value):
    """Hold what a box measures of itself; None = it has no means to."""

    frames_per_second: float = 0.0
    """Over the last ten seconds."""
    frame_ms_p50: float | None = None
    frame_ms_p99: float | None = None
    """From a frame in hand to its decision."""
    sorter_late_ms_p99: float | None = None
    hottest_celsius: float | None = None
    disk_free_bytes: Count | None = None
    outbox_bytes: Count = 0
    clock_skew_s: float | None = None
    """By which its clock is ahead of the release server's."""
    certificate_days: float | None = None
    """Until its certificate runs out; negative once it has."""


class DeviceReport(WireDocument):
    """Say what a device runs and how it fares. Counters run since the device's outbox was made."""

    device_id: DeviceId
    reported_at: UtcTime
    agent_version: str
    state: DeviceState
    release_version: Count
    model_id: ModelId | None = None
    rollout_id: str = ""
    frames_inspected: Count = 0
    frames_dropped: Count = 0
    frames_unreadable: Count = 0
    parts: dict[str, Count] = Field(default_factory=dict)
    """Parts by verdict."""
    kept: dict[str, Count] = Field(default_factory=dict)
    """Examples kept by reason."""
    outbox_waiting: Count = 0
    outbox_lost: Count = 0
    receipts: Count = 0
    last_swap: SwapReport | None = None
    metadata_expired: bool = False
    problem: str = ""
    campaigns: dict[str, Count] = Field(default_factory=dict)
    """Frames kept so far of every capture command that runs, by its id."""
    outbox_evicted: Count = 0
    """Of the lost ones, those that made room for more valuable ones."""
    vitals: Vitals | None = None


class Rollout(WireDocument):
    """Keep the state of one rollout."""

    rollout_id: str
    channel: ChannelName
    release_version: Version
    model_id: ModelId
    devices: tuple[DeviceId, ...]
    state: RolloutState
    started_at: UtcTime
    ended_at: UtcTime | None = None
    reason: str = ""


class Quarantine(WireDocument):
    """Say what was set aside and why; the bytes stay where `key` points."""

    subject: str
    key: str
    reason: str
    device_id: DeviceId | None = None
    quarantined_at: UtcTime
