"""Describe what the database alone knows, because it needs transactions.

Champion, origins, runs, leases, candidates, rollouts, triggers, devices, grants, and what was set aside.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from fleet_contracts.releases import RolloutState
from flows.database.base import NAME, SHA, TASK, Base

RunState = Literal["active", "finished", "refused", "failed", "cancelled"]


class OriginRow(Base):
    """Hold weights a person entered, with licence and reason (law 5)."""

    __tablename__ = "origins"
    task_id: Mapped[str] = mapped_column(TASK, primary_key=True)
    weights_sha256: Mapped[str] = mapped_column(SHA, primary_key=True)
    weights_key: Mapped[str] = mapped_column(String(512))
    weights_bytes: Mapped[int]
    onnx_key: Mapped[str] = mapped_column(String(512))
    model_id: Mapped[str] = mapped_column(SHA)
    class_list_version: Mapped[int]
    release_version: Mapped[int | None]
    licence: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    entered_by: Mapped[str] = mapped_column(NAME)
    entered_at: Mapped[datetime]


class ChampionRow(Base):
    """Hold one promotion; the row with the highest id of a task is its champion."""

    __tablename__ = "champions"
    __table_args__ = (Index("champions_by_task", "task_id", "id"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    task_id: Mapped[str] = mapped_column(TASK)
    kind: Mapped[str] = mapped_column(String(16))
    """`run` or `origin`."""
    release_version: Mapped[int]
    model_id: Mapped[str] = mapped_column(SHA)
    onnx_key: Mapped[str] = mapped_column(String(512))
    weights_key: Mapped[str] = mapped_column(String(512))
    weights_sha256: Mapped[str] = mapped_column(SHA)
    weights_bytes: Mapped[int]
    class_list_version: Mapped[int]
    snapshot_id: Mapped[str | None] = mapped_column(SHA)
    run_id: Mapped[str | None] = mapped_column(NAME)
    promoted_at: Mapped[datetime]
    reason: Mapped[str] = mapped_column(Text)


class LeaseRow(Base):
    """Hold a `Lease`: recorded before the launch call (law 8)."""

    __tablename__ = "leases"
    lease_id: Mapped[str] = mapped_column(NAME, primary_key=True)
    task_id: Mapped[str] = mapped_column(TASK, index=True)
    run_id: Mapped[str] = mapped_column(NAME, index=True)
    provider: Mapped[str] = mapped_column(NAME)
    offer: Mapped[dict[str, Any]]
    price_cap: Mapped[float]
    deadline: Mapped[datetime]
    state: Mapped[str] = mapped_column(String(16), index=True)
    machine: Mapped[str] = mapped_column(Text, default="")
    recorded_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    end_reason: Mapped[str] = mapped_column(Text, default="")
    spot: Mapped[bool] = mapped_column(default=False)
    price: Mapped[float | None]
    asked_at: Mapped[datetime | None]
    launched_at: Mapped[datetime | None]
    cost: Mapped[float | None]


class ReaperRow(Base):
    """Hold what one reaper found at one provider: when it asked last, when it was answered, what is wrong.

    `host` and `boot` tell whether two reapers are on two machines; times are the reaper's own clock's.
    """

    __tablename__ = "reapers"
    host: Mapped[str] = mapped_column(NAME, primary_key=True)
    boot: Mapped[str] = mapped_column(SHA, primary_key=True)
    provider: Mapped[str] = mapped_column(NAME, primary_key=True)
    beat_at: Mapped[datetime]
    seen_at: Mapped[datetime | None]
    trouble: Mapped[str] = mapped_column(Text, default="")


class RunRow(Base):
    """Hold one named run over all its attempts.

    `state` is `active`, `finished` (judged and promoted), `refused` (judged and turned down), `failed` or
    `cancelled` (by a person). The flow that works on an active run renews `touched_at`; one not touched for
    `STALE_SECONDS` has lost its flow and is asked for again.
    """

    __tablename__ = "runs"
    __table_args__ = (Index("runs_by_task", "task_id", "started_at"),)
    run_id: Mapped[str] = mapped_column(NAME, primary_key=True)
    task_id: Mapped[str] = mapped_column(TASK)
    snapshot_id: Mapped[str] = mapped_column(SHA)
    start_kind: Mapped[str] = mapped_column(String(16))
    start_sha256: Mapped[str] = mapped_column(SHA)
    recipe: Mapped[dict[str, Any]]
    state: Mapped[RunState] = mapped_column(String(16), index=True)
    attempts: Mapped[int] = mapped_column(default=0)
    flow_run: Mapped[str] = mapped_column(NAME, default="")
    reason: Mapped[str] = mapped_column(Text, default="")
    started_at: Mapped[datetime]
    touched_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


class CandidateRow(Base):
    """Hold what became of a run's candidate: `collected`, `promoted` or `refused`.

    `release_version` is taken once, before signing, so that a second attempt publishes the same release.
    """

    __tablename__ = "candidates"
    __table_args__ = (UniqueConstraint("task_id", "channel", "release_version"),)
    candidate_id: Mapped[str] = mapped_column(NAME, primary_key=True)
    task_id: Mapped[str] = mapped_column(TASK, index=True)
    run_id: Mapped[str] = mapped_column(NAME, index=True)
    model_id: Mapped[str] = mapped_column(SHA)
    state: Mapped[str] = mapped_column(String(16))
    channel: Mapped[str] = mapped_column(TASK)
    release_version: Mapped[int | None]
    gate: Mapped[dict[str, Any]] = mapped_column(default=dict)
    collected_at: Mapped[datetime]
    judged_at: Mapped[datetime | None]


class TriggerRow(Base):
    """Hold one `TriggerDecision`; written when it differs from the one before it."""

    __tablename__ = "triggers"
    __table_args__ = (Index("triggers_by_task", "task_id", "id"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    task_id: Mapped[str] = mapped_column(TASK)
    asked: Mapped[bool]
    verified_new: Mapped[int]
    threshold: Mapped[int]
    reason: Mapped[str] = mapped_column(Text)
    champion_snapshot: Mapped[str | None] = mapped_column(SHA)
    decided_at: Mapped[datetime]
    emitted_at: Mapped[datetime | None]
    emitted: Mapped[int] = mapped_column(default=0)
    """How often the event was sent for this decision."""


class RolloutRow(Base):
    """Hold a `Rollout`."""

    __tablename__ = "rollouts"
    __table_args__ = (Index("rollouts_by_task", "task_id", "started_at"),)
    rollout_id: Mapped[str] = mapped_column(NAME, primary_key=True)
    task_id: Mapped[str] = mapped_column(TASK)
    channel: Mapped[str] = mapped_column(TASK)
    release_version: Mapped[int]
    model_id: Mapped[str] = mapped_column(SHA)
    devices: Mapped[list[Any]]
    state: Mapped[RolloutState] = mapped_column(String(16), index=True)
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    reason: Mapped[str] = mapped_column(Text, default="")


class DeviceRow(Base):
    """Hold a device's newest `DeviceReport`."""

    __tablename__ = "devices"
    task_id: Mapped[str] = mapped_column(TASK, primary_key=True)
    device_id: Mapped[str] = mapped_column(TASK, primary_key=True)
    state: Mapped[str] = mapped_column(String(16))
    release_version: Mapped[int]
    report: Mapped[dict[str, Any]]
    reported_at: Mapped[datetime]
    seen_at: Mapped[datetime]


class QuarantineRow(Base):
    """Hold a `Quarantine`: what was set aside and why."""

    __tablename__ = "quarantine"
    __table_args__ = (UniqueConstraint("task_id", "subject", "key"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    task_id: Mapped[str] = mapped_column(TASK)
    subject: Mapped[str] = mapped_column(String(255))
    key: Mapped[str] = mapped_column(String(512))
    reason: Mapped[str] = mapped_column(Text)
    device_id: Mapped[str | None] = mapped_column(TASK)
    torn: Mapped[bool] = mapped_column(default=False)
    """True when the bytes were damaged on the way and the box was asked to send them again."""
    quarantined_at: Mapped[datetime]


class CaptureRow(Base):
    """Hold a capture command and what its box answered; it is sent until an answer ends it.

    `outcome` is `waiting` or that of the newest `CommandAnswer`.
    """

    __tablename__ = "captures"
    __table_args__ = (Index("captures_by_task", "task_id", "asked_at"),)
    command_id: Mapped[str] = mapped_column(NAME, primary_key=True)
    task_id: Mapped[str] = mapped_column(TASK)
    device_id: Mapped[str] = mapped_column(TASK)
    command: Mapped[dict[str, Any]]
    """The `CaptureCommand` as it is sent."""
    outcome: Mapped[str] = mapped_column(String(16), index=True)
    detail: Mapped[str] = mapped_column(Text, default="")
    frames_kept: Mapped[int] = mapped_column(default=0)
    asked_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    answered_at: Mapped[datetime | None]


class GrantRow(Base):
    """Remember a grant, so that the same request asked twice gets the same grant."""

    __tablename__ = "grants"
    __table_args__ = (UniqueConstraint("task_id", "device_id", "request_id"),)
    grant_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    task_id: Mapped[str] = mapped_column(TASK)
    device_id: Mapped[str] = mapped_column(TASK)
    request_id: Mapped[str] = mapped_column(String(64))
    items: Mapped[list[Any]]
    """`[sample id, size]` pairs, as promised by the box."""
    granted_at: Mapped[datetime]
    expires_at: Mapped[datetime]
