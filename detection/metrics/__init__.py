"""Measure a detector on labelled images: average precision, recall, escapes and false rejects.

Pure numpy. The gate and the demo's tables are made of these figures.
"""

from __future__ import annotations

from detection.metrics.average_precision import ApReport, average_precision
from detection.metrics.matching import GroundTruth, Matches, box_iou, match_image
from detection.metrics.parts import PartReport, decide_parts, part_report
from detection.metrics.recall import RecallReport, recall_at
from detection.metrics.thresholds import choose_rules

__all__ = [
    "ApReport",
    "GroundTruth",
    "Matches",
    "PartReport",
    "RecallReport",
    "average_precision",
    "box_iou",
    "choose_rules",
    "decide_parts",
    "match_image",
    "part_report",
    "recall_at",
]
