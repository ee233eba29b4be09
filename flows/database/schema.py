"""Gather the tables: two truths, kept in two files and never mixed.

`view_rows` is a view of the bucket that one command rebuilds; `own_rows` lives in the database alone.
"""

from __future__ import annotations

from flows.database.base import Base, UtcDateTime
from flows.database.own_rows import (
    CandidateRow,
    CaptureRow,
    ChampionRow,
    DeviceRow,
    GrantRow,
    LeaseRow,
    OriginRow,
    QuarantineRow,
    ReaperRow,
    RolloutRow,
    RunRow,
    RunState,
    TriggerRow,
)
from flows.database.view_rows import (
    ClassListRow,
    LabelFileRow,
    LabelRow,
    LabelSource,
    Origin,
    SampleRow,
    ShardRow,
    SightingRow,
    SnapshotMemberRow,
    SnapshotRow,
    Split,
    TombstoneRow,
)

__all__ = [
    "Base",
    "CandidateRow",
    "CaptureRow",
    "ChampionRow",
    "ClassListRow",
    "DeviceRow",
    "GrantRow",
    "LabelFileRow",
    "LabelRow",
    "LabelSource",
    "LeaseRow",
    "Origin",
    "OriginRow",
    "QuarantineRow",
    "ReaperRow",
    "RolloutRow",
    "RunRow",
    "RunState",
    "SampleRow",
    "ShardRow",
    "SightingRow",
    "SnapshotMemberRow",
    "SnapshotRow",
    "Split",
    "TombstoneRow",
    "TriggerRow",
    "UtcDateTime",
]
