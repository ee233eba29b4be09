"""Hold the gate's rules about the file itself: what it is, what it computes, what it costs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from fleet_contracts.judging import GateFinding
from fleet_contracts.training import Precision
from trainer.gate.evidence import Evidence
from trainer.gate.settings import GateSettings


class EnoughEvidence:
    """Ask for verified validation images before anything else means something."""

    name = "enough-evidence"

    def check(self, evidence: Evidence) -> GateFinding:
        """Count the images."""
        least, images = evidence.settings.min_val_images, len(evidence.val.members)
        return GateFinding(
            rule=self.name,
            passed=images >= least,
            expected=f"at least {least} verified validation images",
            got=str(images),
        )


class ClassListContinues:
    """Ask that the file's classes are the list, and that the list continues the champion's (law 9)."""

    name = "class-list"

    def check(self, evidence: Evidence) -> GateFinding:
        """Compare names in order."""
        names, file_names = evidence.class_list.names, evidence.file_class_names
        old = evidence.champion.class_names if evidence.champion else ()
        passed = file_names == names and names[: len(old)] == old
        return GateFinding(
            rule=self.name,
            passed=passed,
            expected=f"{list(names)}, which opens with {list(old)}",
            got=str(list(file_names)),
        )


class FileMatches:
    """Ask that the judged file is the candidate's and not too large for a box."""

    name = "file"

    def check(self, evidence: Evidence) -> GateFinding:
        """Compare hash and size."""
        limit = evidence.settings.max_onnx_mib
        size = evidence.onnx_bytes / 2**20
        same = evidence.val.model_id == evidence.candidate.model_id
        return GateFinding(
            rule=self.name,
            passed=same and size <= limit,
            expected=f"model {evidence.candidate.model_id[:12]}, at most {limit:g} MiB",
            got=f"model {evidence.val.model_id[:12]}, {size:.1f} MiB",
        )


class Parity:
    """Ask that the exported file computes what was trained, as closely as its number format can."""

    name = "parity"

    def check(self, evidence: Evidence) -> GateFinding:
        """Compare the report with the format's bounds; nothing compared proves nothing."""
        report, settings = evidence.candidate.parity, evidence.settings
        bound = _parity_bound(settings, evidence.precision)
        box, score = report.max_box_error_px, report.max_score_error
        if bound.kind == "mean":
            # A report without means cannot show that they are small.
            box = math.inf if report.mean_box_error_px is None else report.mean_box_error_px
            score = math.inf if report.mean_score_error is None else report.mean_score_error
        alone = report.unmatched <= bound.unmatched * report.compared
        return GateFinding(
            rule=self.name,
            passed=box <= bound.box_px and score <= bound.score and report.compared > 0 and alone,
            expected=f"{bound.kind} error of boxes within {bound.box_px:g} px, "
            f"of scores within {bound.score:g}",
            got=f"{box:.2g} px, {score:.2g} over {report.compared} "
            f"boxes of {report.images} images, {report.unmatched} unmatched",
            detail=f"against {report.reference}" if report.reference else "",
        )


@dataclass(frozen=True, slots=True)
class _ParityBound:
    kind: Literal["largest", "mean"]
    box_px: float
    score: float
    unmatched: float = 0.0


def _parity_bound(settings: GateSettings, precision: Precision) -> _ParityBound:
    """Return what a format may differ by: one cell of int8 among thousands may be far off, float may not."""
    if precision == "int8":
        return _ParityBound(
            "mean", settings.max_int8_box_px, settings.max_int8_score, settings.max_int8_unmatched
        )
    if precision == "fp16":
        return _ParityBound("largest", settings.max_fp16_box_px, settings.max_fp16_score)
    return _ParityBound("largest", settings.max_parity_box_px, settings.max_parity_score)


class LatencyBound:
    """Ask that a frame does not cost the box much more than before."""

    name = "latency"

    def check(self, evidence: Evidence) -> GateFinding:
        """Compare the medians measured on this machine one after the other."""
        settings, got = evidence.settings, evidence.latency.p50_ms
        bounds = [settings.max_latency_ms] if settings.max_latency_ms else []
        if evidence.champion:
            before = evidence.champion.latency.p50_ms
            bounds.append(max(before * settings.max_latency_ratio, before + settings.latency_slack_ms))
        if not bounds:
            return GateFinding(rule=self.name, passed=True, expected="no bound set", got=f"{got:.1f} ms")
        return GateFinding(
            rule=self.name,
            passed=got <= min(bounds),
            expected=f"at most {min(bounds):.1f} ms a frame",
            got=f"{got:.1f} ms",
            detail=f"{evidence.latency.provider}, 1 thread",
        )


class LatencyOnDevice:
    """Ask that a frame stays within the bound of each device class that the file was measured on."""

    name = "device-latency"

    def check(self, evidence: Evidence) -> GateFinding:
        """Compare medians with the bounds; a class that nobody measured on is named, not judged."""
        bounds = evidence.settings.device_latency_ms
        measured = {one.device_class: one for one in evidence.candidate.latency}
        slow = [
            f"{name} {measured[name].p50_ms:.1f} ms"
            for name, most in sorted(bounds.items())
            if name in measured and measured[name].p50_ms > most
        ]
        known = [f"{name} {measured[name].p50_ms:.1f} ms" for name in sorted(bounds) if name in measured]
        absent = [name for name in sorted(bounds) if name not in measured]
        return GateFinding(
            rule=self.name,
            passed=not slow,
            expected=", ".join(f"{name} at most {most:g} ms" for name, most in sorted(bounds.items()))
            or "no bound set",
            got="; ".join(slow or known) or "not measured",
            detail=f"not measured: {', '.join(absent)}" if absent else "",
        )
