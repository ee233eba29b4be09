"""Name why a retraining did not come to a release.

FlowsError
└── RetrainError             a retraining ended without a candidate to judge
├── AnotherAtWork        a living flow already works on this task
├── TrainingFailed       the trainer gave up for good, or machines kept dying
└── CandidateBroken      what the run delivered is not what it describes
"""

from __future__ import annotations

from flows.errors import FlowsError


class RetrainError(FlowsError):
    """Tell that a retraining ended without a candidate to judge."""


class AnotherAtWork(RetrainError):
    """Tell that a living flow already works on this task; it will do what this one was asked for."""


class TrainingFailed(RetrainError):
    """Tell that a run cannot be trained; the run is closed and its reason recorded."""


class CandidateBroken(RetrainError):
    """Tell that a run's result names files with other hashes; nothing of it was used."""
