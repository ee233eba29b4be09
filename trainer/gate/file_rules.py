"""Hold the gate's rules about the file itself: what it is, what it computes, what it costs."""

from __future__ import annotations

from fleet_contracts.judging import GateFinding
from trainer.gate.evidence import Evidence


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
    """Ask that the exported file computes what was trained."""

    name = "parity"

    def check(self, evidence: Evidence) -> GateFinding:
        """Compare the report with the bounds; nothing compared proves nothing."""
        report, settings = evidence.candidate.parity, evidence.settings
        close = (
            report.max_box_error_px <= settings.max_parity_box_px
            and report.max_score_error <= settings.max_parity_score
        )
        return GateFinding(
            rule=self.name,
            passed=close and report.compared > 0 and report.unmatched == 0,
            expected=f"boxes within {settings.max_parity_box_px:g} px, "
            f"scores within {settings.max_parity_score:g}",
            got=f"{report.max_box_error_px:.2g} px, {report.max_score_error:.2g} over {report.compared} "
            f"boxes of {report.images} images, {report.unmatched} unmatched",
        )


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
