"""Put what was measured into one flat table, for reports and for tracking."""

from __future__ import annotations

from fleet_contracts.judging import ParityReport
from trainer.gate.evidence import Evidence
from trainer.gate.fine_rules import calibration_of, losses_by_slice
from trainer.gate.gather import Case


def measures_of(case: Case) -> dict[str, float]:
    """Return every measure of a file and of the champion beside it, by name."""
    evidence = case.evidence
    sides = {"candidate": (evidence.val, evidence.new_val, case.golden, evidence.latency)}
    if evidence.champion and case.champion_golden:
        champion = evidence.champion
        sides["champion"] = (champion.val, champion.new_val, case.champion_golden, champion.latency)
    measures: dict[str, float] = {}
    for side, (val, new_val, on_golden, latency) in sides.items():
        measures |= {
            f"{side}.val_map50": val.ap.map50,
            f"{side}.val_map50_95": val.ap.map50_95,
            f"{side}.new_val_map50": new_val.ap.map50,
            f"{side}.val_recall": val.recall.recall,
            f"{side}.new_val_recall": new_val.recall.recall,
            f"{side}.golden_map50": on_golden.ap.map50,
            f"{side}.escapes_per_1000": val.parts.escapes_per_1000,
            f"{side}.false_rejects_per_1000": val.parts.false_rejects_per_1000,
            f"{side}.unsure_per_1000": val.parts.unsure_per_1000,
            f"{side}.latency_p50_ms": latency.p50_ms,
            f"{side}.calibration_error": calibration_of(val, evidence.settings).error,
        }
        measures |= {f"{side}.val_map50[{name}]": report.map50 for name, report in val.slices.items()}
    return measures | _of_file(evidence)


def _of_file(evidence: Evidence) -> dict[str, float]:
    measures = {"candidate.onnx_mib": round(evidence.onnx_bytes / 2**20, 3)}
    measures |= _parity(evidence.candidate.parity)
    if evidence.champion:
        losses = losses_by_slice(evidence.val, evidence.champion, evidence.settings.min_slice_truths)
        measures |= {f"candidate.slice_loss[{name}]": loss for name, loss in losses.items()}
    if evidence.misses:
        measures["candidate.miss_rate_bound"] = evidence.misses.bound
    return measures


def _parity(report: ParityReport) -> dict[str, float]:
    found = {
        "max_box_px": report.max_box_error_px,
        "max_score": report.max_score_error,
        "mean_box_px": report.mean_box_error_px,
        "mean_score": report.mean_score_error,
    }
    return {f"candidate.parity_{name}": value for name, value in found.items() if value is not None}
