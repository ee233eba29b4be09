"""Hold the gate's rules: each one small, each says what it expected and what it got.

`judge_all([])` is an error: a gate without rules lets everything through.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from fleet_contracts.judging import GateFinding
from trainer.errors import GateMisused
from trainer.gate.accuracy_rules import (
    Escapes,
    FalseRejects,
    FirstRecall,
    NotForgotten,
    OverallNotWorse,
    PerClass,
)
from trainer.gate.evidence import Evidence
from trainer.gate.file_rules import (
    ClassListContinues,
    EnoughEvidence,
    FileMatches,
    LatencyBound,
    LatencyOnDevice,
    Parity,
)
from trainer.gate.fine_rules import Calibration, MissRate, PerSlice


class GateRule(Protocol):
    """Be one rule."""

    name: str

    def check(self, evidence: Evidence) -> GateFinding:
        """Return what was expected and what was got."""


COMMON: tuple[GateRule, ...] = (
    EnoughEvidence(),
    ClassListContinues(),
    FileMatches(),
    Parity(),
    OverallNotWorse(),
    PerClass(),
    PerSlice(),
    Escapes(),
    FalseRejects(),
    MissRate(),
    Calibration(),
    LatencyBound(),
    LatencyOnDevice(),
)


def rules_for(evidence: Evidence) -> tuple[GateRule, ...]:
    """Return the rules that apply: forgetting against a champion, floors for a first release."""
    return (*COMMON, NotForgotten()) if evidence.champion else (*COMMON, FirstRecall())


def judge_all(rules: Sequence[GateRule], evidence: Evidence) -> tuple[GateFinding, ...]:
    """Check every rule; all are heard, so that a person sees every reason at once.

    Raises:
        GateMisused: there are no rules.
    """
    if not rules:
        raise GateMisused(expected="at least one rule", got="none", where="gate")
    return tuple(rule.check(evidence) for rule in rules)
