"""Name what can be wrong with a question for memory.

Both are a `TrainerError`:

TrainerError
├── EstimateRefused           the network or the shape cannot be estimated
└── TraceFailed               the tracing child died or took too long
"""

from __future__ import annotations

from trainer.errors import TrainerError


class EstimateRefused(TrainerError):
    """Tell that a model or shape cannot be estimated: unknown name, no detection model, odd image size."""

    remedy = "Name a detection model of ultralytics (yolo11n.yaml) or a .pt of one, and a size it can take."


class TraceFailed(TrainerError):
    """Tell that the tracing child died or took too long; nothing is known of the network."""

    remedy = "Look at the log's end; a run without an estimate can still be planned by hand."
