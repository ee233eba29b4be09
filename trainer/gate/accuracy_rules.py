"""Hold the gate's rules about what the model finds, misses, wrongly rejects and forgets."""

from __future__ import annotations

from fleet_contracts.judging import GateFinding
from trainer.gate.evidence import Evidence


class OverallNotWorse:
    """Ask for mAP50 on new validation data: at least the champion's, or the floor of a first release."""

    name = "overall"

    def check(self, evidence: Evidence) -> GateFinding:
        """Compare mAP50."""
        got = evidence.new_val.ap.map50
        least = evidence.settings.first_min_map50
        detail = f"on {len(evidence.new_val.members)} images"
        if evidence.champion:
            before = evidence.champion.new_val.ap.map50
            least = before + evidence.settings.min_val_gain
            detail += f", champion {before:.3f}"
        return GateFinding(
            rule=self.name,
            passed=got >= least,
            expected=f"mAP50 at least {least:.3f}",
            got=f"{got:.3f}",
            detail=detail,
        )


class PerClass:
    """Ask that no class with enough truths is given up for the others."""

    name = "per-class"

    def check(self, evidence: Evidence) -> GateFinding:
        """Compare AP50 class by class; classes with too few truths are named and not judged."""
        settings, val = evidence.settings, evidence.val
        failures, unjudged = [], []
        for class_id, got in sorted(val.ap.ap50_per_class.items()):
            name = evidence.class_list.names[class_id]
            if val.recall.truths_per_class.get(class_id, 0) < settings.min_class_truths:
                unjudged.append(name)
                continue
            least = self._least(evidence, class_id)
            if got < least:
                failures.append(f"{name} {got:.3f} under {least:.3f}")
        detail = f"too few truths: {', '.join(unjudged)}" if unjudged else ""
        return GateFinding(
            rule=self.name,
            passed=not failures,
            expected=f"each class at least {settings.class_ap50_floor:g} AP50 and at most "
            f"{settings.max_class_loss:g} under the champion",
            got="; ".join(failures) or "each class",
            detail=detail,
        )

    def _least(self, evidence: Evidence, class_id: int) -> float:
        settings = evidence.settings
        champion = evidence.champion
        if champion is None or class_id >= len(champion.class_names):
            return settings.class_ap50_floor
        before = champion.val.ap.ap50_per_class.get(class_id, 0.0)
        # A class the champion itself missed below the floor must not block the first better model.
        return max(before - settings.max_class_loss, min(settings.class_ap50_floor, before))


class FirstRecall:
    """Ask a first release for recall at its operating thresholds."""

    name = "first-recall"

    def check(self, evidence: Evidence) -> GateFinding:
        """Compare recall with the floor."""
        least, got = evidence.settings.first_min_recall, evidence.val.recall.recall
        return GateFinding(
            rule=self.name, passed=got >= least, expected=f"recall at least {least:g}", got=f"{got:.3f}"
        )


class Escapes:
    """Ask that not more bad parts get away."""

    name = "escapes"

    def check(self, evidence: Evidence) -> GateFinding:
        """Compare escapes per 1,000 parts."""
        report, settings = evidence.val.parts, evidence.settings
        most = settings.first_max_escapes_per_1000
        if evidence.champion:
            most = evidence.champion.val.parts.escapes_per_1000 + settings.max_more_escapes_per_1000
        got = report.escapes_per_1000
        return GateFinding(
            rule=self.name,
            passed=got <= most,
            expected=f"at most {most:.1f} per 1,000 parts",
            got=f"{got:.1f}",
            detail=f"{report.escapes} of {report.bad_parts} bad parts",
        )


class FalseRejects:
    """Ask that not more good parts are thrown away."""

    name = "false-rejects"

    def check(self, evidence: Evidence) -> GateFinding:
        """Compare false rejects per 1,000 parts."""
        report, settings = evidence.val.parts, evidence.settings
        most = settings.first_max_false_rejects_per_1000
        if evidence.champion:
            most = (
                evidence.champion.val.parts.false_rejects_per_1000 + settings.max_more_false_rejects_per_1000
            )
        got = report.false_rejects_per_1000
        return GateFinding(
            rule=self.name,
            passed=got <= most,
            expected=f"at most {most:.1f} per 1,000 parts",
            got=f"{got:.1f}",
            detail=f"{report.false_rejects} of {report.good_parts} good parts",
        )


class NotForgotten:
    """Ask that the golden set is not forgotten, as measured and at the bootstrap interval's worse end."""

    name = "forgetting"

    def check(self, evidence: Evidence) -> GateFinding:
        """Compare the loss of mAP50 with both bounds."""
        settings = evidence.settings
        expected = (
            f"loss of mAP50 at most {settings.max_golden_loss:g}, and at most "
            f"{settings.max_golden_loss_worst:g} at the {settings.golden_confidence:.0%} interval's end"
        )
        change = evidence.champion.golden_change if evidence.champion else None
        if change is None:
            return GateFinding(
                rule=self.name,
                passed=not settings.require_golden,
                expected=expected,
                got="no golden set",
                detail="mark golden members when importing old data",
            )
        passed = -change.value <= settings.max_golden_loss and -change.low <= settings.max_golden_loss_worst
        # Drawn from one group every draw is the same, and the interval claims a certainty there is not.
        alone = change.groups < 2
        return GateFinding(
            rule=self.name,
            passed=passed and not (alone and settings.require_golden),
            expected=expected,
            got=f"change {change.value:+.4f}, interval {change.low:+.4f} to {change.high:+.4f}",
            detail=f"{evidence.golden_images} images in {change.groups} groups, {change.rounds} rounds"
            + ("; one group of near duplicates cannot show what is forgotten" if alone else ""),
        )
