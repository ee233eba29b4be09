"""Hold the gate's rules that look closer: at slices, at stated confidence, at a stated miss rate."""

from __future__ import annotations

from detection.decision import reject_thresholds
from detection.metrics.average_precision import average_precision
from detection.metrics.calibration import CalibrationReport, Draws, calibration
from detection.metrics.misses import MissReport
from fleet_contracts.judging import GateFinding
from trainer.gate.bootstrap import map50_difference
from trainer.gate.evidence import ChampionEvidence, Evidence
from trainer.gate.settings import GateSettings
from trainer.gate.slices import Slice, slices_of
from trainer.validation import Evaluation

_MOST_NAMED = 6


class PerSlice:
    """Ask that no board, camera, light or size of object is given up for the others."""

    name = "per-slice"

    def check(self, evidence: Evidence) -> GateFinding:
        """Compare mAP50 slice by slice, over the classes both models know.

        A loss beyond the bound counts only if drawing the images again would not take it back: with many
        slices some lose by chance, so the interval is as wide as their number asks (Bonferroni).
        """
        settings, champion = evidence.settings, evidence.champion
        expected = f"each slice at most {settings.max_slice_loss:g} mAP50 under the champion"
        if champion is None:
            return GateFinding(rule=self.name, passed=True, expected=expected, got="no champion")
        classes = len(champion.class_names)
        ours, before = slices_of(evidence.val, classes), slices_of(champion.val, classes)
        judged = [name for name, one in ours.items() if one.truth_count >= settings.min_slice_truths]
        losses = {name: _map50(before[name], classes) - _map50(ours[name], classes) for name in judged}
        failures: list[str] = []
        doubtful: list[str] = []
        for name in (one for one in judged if losses[one] > settings.max_slice_loss):
            told = f"{name} loses {losses[name]:.3f}"
            certain = self._is_certain((ours[name], before[name]), evidence, len(judged))
            (failures if certain else doubtful).append(told)
        worst = max(judged, key=lambda name: losses[name], default="")
        got = f"{len(judged)} slices, worst {worst} {-losses[worst]:+.3f}" if judged else "no slice to judge"
        return GateFinding(
            rule=self.name,
            passed=not failures,
            expected=expected,
            got="; ".join(failures[:_MOST_NAMED]) or got,
            detail="; ".join(filter(None, [_few(ours, judged), _within_chance(doubtful)])),
        )

    def _is_certain(self, pair: tuple[Slice, Slice], evidence: Evidence, slices: int) -> bool:
        ours, before = pair
        settings = evidence.settings
        change = map50_difference(
            ours.predictions,
            before.predictions,
            ours.truths,
            [evidence.val.members[row].group_id for row in ours.rows],
            rounds=settings.bootstrap_rounds,
            confidence=1.0 - (1.0 - settings.golden_confidence) / slices,
        )
        return change.high < 0.0


class Calibration:
    """Ask that stated confidences can be believed at the operating thresholds."""

    name = "calibration"

    def check(self, evidence: Evidence) -> GateFinding:
        """Compare mean confidence with precision; refuse only if the whole interval is out of bounds."""
        settings = evidence.settings
        report = calibration_of(evidence.val, settings)
        expected = f"confidence at most {settings.max_overconfidence:g} above precision"
        if settings.max_underconfidence < 1.0:
            expected += f" and at most {settings.max_underconfidence:g} below"
        if report.detections < settings.min_calibration_detections:
            got = f"{report.detections} detections, too few to judge"
            return GateFinding(rule=self.name, passed=True, expected=expected, got=got)
        too_sure = report.low > settings.max_overconfidence
        too_shy = report.high < -settings.max_underconfidence
        return GateFinding(
            rule=self.name,
            passed=not (too_sure or too_shy),
            expected=expected,
            got=f"{report.gap:+.3f}, interval {report.low:+.3f} to {report.high:+.3f}",
            detail=f"{report.detections} detections said to be {report.stated:.3f} sure, "
            f"{report.precision:.3f} right; expected calibration error {report.error:.3f}",
        )


class MissRate:
    """Ask that the thresholds hold the miss rate that the decision settings state."""

    name = "miss-rate"

    def check(self, evidence: Evidence) -> GateFinding:
        """Refuse what the data contradict; data too few to tell are refused only where asked for."""
        report = evidence.misses
        if report is None:
            return GateFinding(rule=self.name, passed=True, expected="no rate stated", got="none to hold")
        passed = report.held or not (report.contradicted or evidence.settings.require_miss_rate)
        return GateFinding(
            rule=self.name,
            passed=passed,
            expected=f"at most {report.rate:.2%} of bad parts missed, {report.confidence:.0%} sure",
            got=report.in_words(),
            detail="" if report.held else _unproven(report),
        )


def _unproven(report: MissReport) -> str:
    return "the data contradict the rate" if report.contradicted else "the data are too few to show the rate"


def calibration_of(evaluation: Evaluation, settings: GateSettings) -> CalibrationReport:
    """Return how well an evaluation's confidences are calibrated at its own rules."""
    missing = evaluation.class_count - len(evaluation.class_names)
    return calibration(
        evaluation.predictions,
        evaluation.truths,
        (*reject_thresholds(evaluation.rules, evaluation.class_names), *([2.0] * missing)),
        [member.group_id for member in evaluation.members],
        Draws(settings.bootstrap_rounds, settings.golden_confidence),
    )


def losses_by_slice(val: Evaluation, champion: ChampionEvidence, least_truths: int) -> dict[str, float]:
    """Return what each slice with enough truths loses of mAP50 against the champion, for the report."""
    classes = len(champion.class_names)
    before = slices_of(champion.val, classes)
    return {
        name: _map50(before[name], classes) - _map50(one, classes)
        for name, one in slices_of(val, classes).items()
        if one.truth_count >= least_truths
    }


def _map50(one: Slice, classes: int) -> float:
    return average_precision(one.predictions, one.truths, classes, overlaps=(0.5,)).map50


def _few(slices: dict[str, Slice], judged: list[str]) -> str:
    names = [name for name, one in slices.items() if name not in judged and one.truth_count]
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f"too few truths: {', '.join(names[:_MOST_NAMED])}{more}" if names else ""


def _within_chance(doubtful: list[str]) -> str:
    return f"within chance: {', '.join(doubtful[:_MOST_NAMED])}" if doubtful else ""
