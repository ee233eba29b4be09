"""Judge the very file that ships (law 6) and write the verdict down with every reason (law 10).

(1) Run candidate and champion over the same verified validation and golden members.
(2) Choose the candidate's decision rules on those members and measure parts by them.
(3) Ask the bootstrap how sure the change on the golden set is.
(4) Hear every rule; promote only if all pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from detection.metrics.thresholds import DEFAULT_OPTIONS, ThresholdOptions
from fleet_contracts.base import utc_now
from fleet_contracts.judging import Candidate, GateFinding, GateReport
from fleet_contracts.samples import DecisionRules
from fleet_contracts.training import SnapshotMember
from trainer.gate.bootstrap import Interval, map50_difference
from trainer.gate.evidence import ChampionEvidence, Evidence
from trainer.gate.pictures import draw_changes
from trainer.gate.rules import judge_all, rules_for
from trainer.gate.settings import GateSettings
from trainer.latency import measure_latencies
from trainer.validation import Evaluation, clipped_truths, evaluate_model, subset


@dataclass(frozen=True, slots=True)
class Champion:
    """Point at what the candidate must beat: the released file and the decision rules it shipped with."""

    onnx: Path
    decision_rules: DecisionRules


@dataclass(frozen=True, slots=True)
class JudgeInputs:
    """Hold a case. Only members of splits `val` and `golden` with verified labels are looked at."""

    candidate: Candidate
    onnx: Path
    members: tuple[SnapshotMember, ...]
    image_of: Callable[[str], bytes]
    champion: Champion | None = None
    settings: GateSettings = field(default_factory=GateSettings)
    decision: ThresholdOptions = DEFAULT_OPTIONS
    """How the candidate's decision rules are chosen, and what they hold beside thresholds."""
    pictures: Path | None = None
    """Folder for before-and-after pictures; None draws none."""


def judge(inputs: JudgeInputs) -> GateReport:
    """Return the verdict on a candidate.

    Raises:
        ClassListConflict: a file's classes are no prefix of the candidate's list.
        DatasetRefused: an image does not decode.
        GateMisused: no rule applied.
        RulesError: the decision settings do not fit the class list.
    """
    evidence, golden, champion_golden = _gather(inputs)
    findings = judge_all(rules_for(evidence), evidence)
    pictures: tuple[str, ...] = ()
    if inputs.pictures is not None and evidence.champion is not None:
        pictures = draw_changes(evidence.champion.val, evidence.val, inputs.image_of, inputs.pictures)
    return GateReport(
        task_id=inputs.candidate.task_id,
        candidate_id=inputs.candidate.candidate_id,
        candidate_model=inputs.candidate.model_id,
        champion_model=evidence.champion.val.model_id if evidence.champion else None,
        snapshot_id=inputs.candidate.snapshot_id,
        findings=findings,
        promoted=all(finding.passed for finding in findings),
        decision_rules=evidence.val.rules,
        measures=_measures(evidence, golden, champion_golden),
        pictures=pictures,
        judged_at=utc_now(),
    )


def explain(findings: tuple[GateFinding, ...]) -> str:
    """Return the findings as a Markdown table."""
    rows = ["| rule | | expected | got | detail |", "|---|---|---|---|---|"]
    rows += [
        f"| {one.rule} | {'pass' if one.passed else 'FAIL'} | {one.expected} | {one.got} | {one.detail} |"
        for one in findings
    ]
    return "\n".join(rows)


def _gather(inputs: JudgeInputs) -> tuple[Evidence, Evaluation, Evaluation | None]:
    class_list, settings = inputs.candidate.class_list, inputs.settings
    members = tuple(one for one in inputs.members if one.split in ("val", "golden") and one.verified)
    # (1) and (2): without rules given, they are chosen on exactly these members
    both = evaluate_model(inputs.onnx, members, inputs.image_of, class_list, rules=inputs.decision)
    on_val = [member.split == "val" for member in both.members]
    val = subset(both, on_val, class_list)
    golden = subset(both, [not one for one in on_val], class_list)
    is_new = _new_rows(val, settings)
    champion, champion_golden = None, None
    latencies = measure_latencies([inputs.onnx, *([inputs.champion.onnx] if inputs.champion else [])])
    if inputs.champion is not None:
        before = evaluate_model(
            inputs.champion.onnx, members, inputs.image_of, class_list, rules=inputs.champion.decision_rules
        )
        champion_golden = subset(before, [not one for one in on_val], class_list)
        champion_val = subset(before, on_val, class_list)
        champion = ChampionEvidence(
            class_names=before.class_names,
            new_val=subset(champion_val, is_new, class_list),
            val=champion_val,
            golden_change=_golden_change(golden, champion_golden, settings),
            latency=latencies[1],
        )
    evidence = Evidence(
        candidate=inputs.candidate,
        file_class_names=both.class_names,
        class_list=class_list,
        onnx_bytes=inputs.onnx.stat().st_size,
        new_val=subset(val, is_new, class_list),
        val=val,
        golden_images=len(golden.members),
        latency=latencies[0],
        champion=champion,
        settings=settings,
    )
    return evidence, golden, champion_golden


def _new_rows(val: Evaluation, settings: GateSettings) -> list[bool]:
    """Say which validation members are new: mined or captured, if there are enough to measure on."""
    rows = [member.origin != "import" for member in val.members]
    return rows if sum(rows) >= settings.min_new_val_images else [True] * len(rows)


def _golden_change(golden: Evaluation, before: Evaluation, settings: GateSettings) -> Interval | None:
    """Compare on the classes both know: a class the champion never had cannot be forgotten."""
    if not golden.members:
        return None
    # (3)
    return map50_difference(
        golden.predictions,
        before.predictions,
        clipped_truths(golden, len(before.class_names)),
        [member.group_id for member in golden.members],
        rounds=settings.bootstrap_rounds,
        confidence=settings.golden_confidence,
    )


def _measures(evidence: Evidence, golden: Evaluation, before_golden: Evaluation | None) -> dict[str, float]:
    sides = {"candidate": (evidence.val, evidence.new_val, golden, evidence.latency)}
    if evidence.champion and before_golden:
        champion = evidence.champion
        sides["champion"] = (champion.val, champion.new_val, before_golden, champion.latency)
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
        }
        measures |= {f"{side}.val_map50[{name}]": report.map50 for name, report in val.slices.items()}
    return measures
