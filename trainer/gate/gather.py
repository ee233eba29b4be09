"""Run models over the members a gate may look at, once each, and hand out what the rules look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from detection.errors import DetectionError
from fleet_contracts.errors import ContractError
from fleet_contracts.judging import Candidate, Latency, ModelVariant
from fleet_contracts.samples import ClassList
from fleet_contracts.training import Precision, SnapshotMember
from trainer.gate.bootstrap import Interval, map50_difference
from trainer.gate.evidence import ChampionEvidence, Evidence
from trainer.gate.inputs import JudgeInputs
from trainer.gate.settings import GateSettings
from trainer.latency import measure_latencies
from trainer.validation import Evaluation, clipped_truths, evaluate_model, subset


@dataclass(frozen=True, slots=True)
class CaseFile:
    """Hold one file of a candidate, and the candidate as if that file were all of it."""

    precision: Precision
    path: Path
    candidate: Candidate


@dataclass(frozen=True, slots=True)
class Seen:
    """Hold what one file found on all members; None where it does not run, and why."""

    file: CaseFile
    both: Evaluation | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Before:
    """Hold the champion's side as far as it does not depend on what it is compared with."""

    both: Evaluation
    val: Evaluation
    golden: Evaluation


@dataclass(frozen=True, slots=True)
class Case:
    """Hold the evidence on one file, and both models on the golden set."""

    evidence: Evidence
    golden: Evaluation
    champion_golden: Evaluation | None


def files_of(inputs: JudgeInputs) -> tuple[CaseFile, ...]:
    """Return every file of a candidate, float32 first."""
    return (
        CaseFile("fp32", inputs.onnx, inputs.candidate),
        *(
            CaseFile(one.precision, path, _as_candidate(inputs.candidate, one))
            for one, path in inputs.variants
        ),
    )


def members_of(inputs: JudgeInputs) -> tuple[SnapshotMember, ...]:
    """Return the members that may be looked at: verified ones of validation and golden set (law 4)."""
    return tuple(one for one in inputs.members if one.split in ("val", "golden") and one.verified)


def look(inputs: JudgeInputs, file: CaseFile, members: Sequence[SnapshotMember]) -> Seen:
    """Run one file over the members; its decision rules are chosen on exactly these.

    Raises:
        ClassListConflict, ModelFileError, ...: the float32 file does not run; of any other one it is told.
    """
    class_list = inputs.candidate.class_list
    try:
        both = evaluate_model(file.path, members, inputs.image_of, class_list, rules=inputs.decision)
    except (DetectionError, ContractError) as error:
        if file.precision == "fp32":
            raise
        return Seen(file, None, str(error))
    return Seen(file, both)


def look_at_champion(inputs: JudgeInputs, members: Sequence[SnapshotMember]) -> Before | None:
    """Run the champion over the members by the rules it shipped with; None where there is none."""
    if inputs.champion is None:
        return None
    class_list = inputs.candidate.class_list
    both = evaluate_model(
        inputs.champion.onnx, members, inputs.image_of, class_list, rules=inputs.champion.decision_rules
    )
    return Before(both, _split(both, "val", class_list), _split(both, "golden", class_list))


def time_files(inputs: JudgeInputs, seen: Sequence[Seen]) -> dict[Path, Latency]:
    """Measure the files that run, and the champion, frame by frame in turn on this machine."""
    paths = [one.file.path for one in seen if one.both is not None]
    if inputs.champion is not None:
        paths.append(inputs.champion.onnx)
    return dict(zip(paths, measure_latencies(paths), strict=True))


def case_of(inputs: JudgeInputs, seen: Seen, before: Before | None, took: dict[Path, Latency]) -> Case:
    """Lay out the evidence on one file that runs."""
    assert seen.both is not None
    settings, class_list = inputs.settings, inputs.candidate.class_list
    val, golden = (_split(seen.both, split, class_list) for split in ("val", "golden"))
    is_new = _new_rows(val, settings)
    champion = None
    if before is not None and inputs.champion is not None:
        champion = ChampionEvidence(
            class_names=before.both.class_names,
            new_val=subset(before.val, is_new, class_list),
            val=before.val,
            golden_change=_golden_change(golden, before.golden, settings),
            latency=took[inputs.champion.onnx],
        )
    evidence = Evidence(
        candidate=seen.file.candidate,
        file_class_names=seen.both.class_names,
        class_list=class_list,
        onnx_bytes=seen.file.path.stat().st_size,
        new_val=subset(val, is_new, class_list),
        val=val,
        golden_images=len(golden.members),
        latency=took[seen.file.path],
        champion=champion,
        settings=settings,
        precision=seen.file.precision,
        misses=seen.both.misses,
    )
    return Case(evidence, golden, before.golden if before else None)


def _as_candidate(candidate: Candidate, variant: ModelVariant) -> Candidate:
    return candidate.model_copy(
        update={
            "model_id": variant.model_id,
            "onnx_bytes": variant.onnx_bytes,
            "parity": variant.parity,
            "latency": variant.latency,
        }
    )


def _split(both: Evaluation, split: str, class_list: ClassList) -> Evaluation:
    return subset(both, [member.split == split for member in both.members], class_list)


def _new_rows(val: Evaluation, settings: GateSettings) -> list[bool]:
    """Say which validation members are new: mined or captured, if there are enough to measure on."""
    rows = [member.origin != "import" for member in val.members]
    return rows if sum(rows) >= settings.min_new_val_images else [True] * len(rows)


def _golden_change(golden: Evaluation, before: Evaluation, settings: GateSettings) -> Interval | None:
    """Compare on the classes both know: a class the champion never had cannot be forgotten."""
    if not golden.members:
        return None
    return map50_difference(
        golden.predictions,
        before.predictions,
        clipped_truths(golden, len(before.class_names)),
        [member.group_id for member in golden.members],
        rounds=settings.bootstrap_rounds,
        confidence=settings.golden_confidence,
    )
