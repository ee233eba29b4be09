"""Gather what the rules look at: both models on the same verified members, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass

from detection.metrics.misses import MissReport
from fleet_contracts.judging import Candidate, Latency
from fleet_contracts.samples import ClassList
from fleet_contracts.training import Precision
from trainer.gate.bootstrap import Interval
from trainer.gate.settings import GateSettings
from trainer.validation import Evaluation


@dataclass(frozen=True, slots=True)
class ChampionEvidence:
    """Hold the champion's side; its class names may be a prefix of the list."""

    class_names: tuple[str, ...]
    new_val: Evaluation
    val: Evaluation
    golden_change: Interval | None
    """mAP50 of the candidate minus the champion's on the golden set, over the classes both know."""
    latency: Latency


@dataclass(frozen=True, slots=True)
class Evidence:
    """Hold everything a rule may ask for. `new_val` are the mined ones of `val` where they are enough.

    `candidate` describes the one file that is judged: hash, size, parity and latency are that file's own.
    """

    candidate: Candidate
    file_class_names: tuple[str, ...]
    class_list: ClassList
    onnx_bytes: int
    new_val: Evaluation
    val: Evaluation
    golden_images: int
    latency: Latency
    champion: ChampionEvidence | None
    settings: GateSettings
    precision: Precision = "fp32"
    misses: MissReport | None = None
    """How a stated miss rate was held when thresholds were chosen; None where none is stated."""
