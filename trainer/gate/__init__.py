"""Judge a candidate against the champion by a list of small rules, each with what it expected and got."""

from __future__ import annotations

from trainer.gate.judge import Champion, JudgeInputs, judge
from trainer.gate.settings import GateSettings

__all__ = ["Champion", "GateSettings", "JudgeInputs", "judge"]
