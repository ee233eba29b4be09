"""Hold a case as it is brought before the gate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from detection.metrics.thresholds import DEFAULT_OPTIONS, ThresholdOptions
from fleet_contracts.judging import Candidate, ModelVariant
from fleet_contracts.samples import DecisionRules
from fleet_contracts.training import SnapshotMember
from trainer.gate.settings import GateSettings


@dataclass(frozen=True, slots=True)
class Champion:
    """Point at what the candidate must beat: the released file and the decision rules it shipped with."""

    onnx: Path
    decision_rules: DecisionRules


@dataclass(frozen=True, slots=True)
class JudgeInputs:
    """Hold a case. Only members of splits `val` and `golden` with verified labels are looked at."""

    candidate: Candidate
    onnx: Path
    members: tuple[SnapshotMember, ...]
    image_of: Callable[[str], bytes]
    champion: Champion | None = None
    settings: GateSettings = field(default_factory=GateSettings)
    decision: ThresholdOptions = DEFAULT_OPTIONS
    """How the candidate's decision rules are chosen, and what they hold beside thresholds."""
    pictures: Path | None = None
    """Folder for before-and-after pictures; None draws none."""
    variants: tuple[tuple[ModelVariant, Path], ...] = ()
    """The candidate's other number formats with their files here."""
