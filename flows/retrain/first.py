"""Make a task's first release from weights a person entered (law 5), judged by absolute floors.

(1) export the weights through the trainer's child, under the task's class list as far as they know it
(2) enter them as an origin, with licence and reason
(3) judge the exported file on what is labelled; a refusal stands unless a person overrules it in words
(4) sign the release and make it the champion, from which the first run starts
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from detection.model_file import read_model
from fleet_contracts import encode, keys, run_id_of
from fleet_contracts.judging import Candidate, GateReport, ParityReport
from fleet_contracts.releases import Lineage, Release
from fleet_contracts.samples import ClassList, ClassRule, DecisionRules
from flows.champion import Entry, OriginFiles, Promotion, champion, register_origin, set_champion
from flows.classes import class_list_at, current_class_list
from flows.context import Context
from flows.database.schema import OriginRow
from flows.errors import CannotStart
from flows.files import write_file
from flows.releases.build import ReleasePlan, build_release
from flows.retrain.judging import gate_settings, image_reader
from flows.retrain.promotion import failed_rules, repository
from flows.settings import DecisionSettings
from flows.snapshots.cut import Snapshot, cut_snapshot, require_decides
from trainer.backend import export_weights
from trainer.gate.judge import JudgeInputs, judge

log = logging.getLogger("whetstone.retrain")

PARITY_IMAGES = 16
REJECT_AT, UNSURE_AT = 0.5, 0.25
"""Decision rules of an origin that nobody could judge for want of labels."""


@dataclass(frozen=True, slots=True)
class FirstRelease:
    """Hold what came of it; `gate` is None when there was nothing to judge on."""

    origin: OriginRow
    release: Release
    gate: GateReport | None


@dataclass(frozen=True, slots=True)
class _Exported:
    onnx: Path
    weights: Path
    parity: ParityReport


@dataclass(frozen=True, slots=True)
class _Case:
    ctx: Context
    origin: OriginRow
    exported: _Exported
    class_list: ClassList
    snapshot: Snapshot | None
    images: Callable[[str], bytes]


def first_release(
    ctx: Context, task_id: str, weights: Path, entry: Entry, *, overrule: str = ""
) -> FirstRelease:
    """Enter weights and release them as a task's first model; the same weights again change nothing.

    Args:
        ctx: the installation.
        task_id: the task.
        weights: a `.pt` whose classes are the task's list or a beginning of it.
        entry: who enters them, under which licence and why.
        overrule: why the model is to be released though the gate refuses it or cannot judge it.

    Raises:
        CannotStart: the task has another champion already, the gate refused and nobody overruled it, or the
            decision settings name a class that the task does not have.
        StartRefused: the weights are no detection model of these classes.
    """
    # (0) Without labels no snapshot asks for it, and a name that fits no class would be left out in silence.
    require_decides(ctx.settings.task(task_id), current_class_list(ctx, task_id), task_id)
    snapshot = _snapshot(ctx, task_id)
    folder = ctx.folder / "work" / f"origin-{task_id}"
    images = image_reader(ctx, task_id, folder / "images")
    # (1)
    exported = _export(ctx, task_id, weights, folder, _parity_images(snapshot, images, folder))
    # (2)
    origin = register_origin(ctx, task_id, OriginFiles(weights, exported.onnx), entry)
    _require_first(ctx, task_id, origin)
    class_list = class_list_at(ctx, task_id, origin.class_list_version)
    case = _Case(ctx, origin, exported, class_list, snapshot, images)
    # (3)
    gate = _judge(case)
    _require_passed(gate, overrule, task_id)
    # (4)
    release = _publish(case, gate, overrule)
    _promote(case, release)
    return FirstRelease(origin, release, gate)


def _snapshot(ctx: Context, task_id: str) -> Snapshot | None:
    try:
        return cut_snapshot(ctx, task_id)
    except CannotStart as error:
        log.warning("retrain.origin_without_labels task=%s why=%s", task_id, error)
        return None


def _export(ctx: Context, task_id: str, weights: Path, folder: Path, parity: Path | None) -> _Exported:
    size = ctx.settings.task(task_id).image_size
    names = current_class_list(ctx, task_id).names
    result = export_weights(weights, names, size, folder / "export", parity_folder=parity)
    assert result.onnx is not None
    nothing = ParityReport(images=0, compared=0, unmatched=0, max_box_error_px=0.0, max_score_error=0.0)
    return _Exported(result.onnx, weights, result.parity or nothing)


def _parity_images(snapshot: Snapshot | None, images: Callable[[str], bytes], folder: Path) -> Path | None:
    if snapshot is None:
        return None
    chosen = snapshot.of_split("val")[:PARITY_IMAGES]
    for member in chosen:
        write_file(folder / "parity" / f"{member.sample_id}.jpg", images(member.sample_id))
    return folder / "parity" if chosen else None


def _require_first(ctx: Context, task_id: str, origin: OriginRow) -> None:
    current = champion(ctx, task_id)
    if current is not None and current.model_id != origin.model_id:
        raise CannotStart(
            expected="a task without a champion",
            got=f"release {current.release_version}",
            where=f"task {task_id}",
            now="An origin makes a first release only; later ones are trained.",
        )


def _judge(case: _Case) -> GateReport | None:
    if case.snapshot is None:
        return None
    task_id = case.origin.task_id
    # What the list gained since speaks of classes this model cannot know.
    known = tuple(one for one in case.snapshot.members if one.class_count <= len(case.class_list.names))
    gate = judge(
        JudgeInputs(
            candidate=_candidate(case, case.snapshot),
            onnx=case.exported.onnx,
            members=known,
            image_of=case.images,
            # An origin has one file, whatever the task's later releases ship.
            settings=gate_settings(case.ctx, task_id).model_copy(update={"ship": ("fp32",)}),
            decision=case.ctx.settings.task(task_id).decision.options(),
        )
    )
    case.ctx.store.put(keys.origin(task_id, case.origin.weights_sha256, "gate.json"), encode(gate))
    return gate


def _candidate(case: _Case, snapshot: Snapshot) -> Candidate:
    origin, model = case.origin, read_model(case.exported.onnx)
    name = run_id_of(
        task_id=origin.task_id,
        snapshot_id=snapshot.snapshot_id,
        start_sha256=origin.weights_sha256,
        recipe={"origin": True},
    )
    return Candidate(
        task_id=origin.task_id,
        candidate_id=name,
        run_id=name,
        snapshot_id=snapshot.snapshot_id,
        model_id=origin.model_id,
        onnx_bytes=case.exported.onnx.stat().st_size,
        weights_sha256=origin.weights_sha256,
        weights_bytes=origin.weights_bytes,
        input_spec=model.spec,
        class_list=case.class_list,
        parity=case.exported.parity,
        start_sha256=origin.weights_sha256,
        created_at=origin.entered_at,
    )


def _require_passed(gate: GateReport | None, overrule: str, task_id: str) -> None:
    if overrule or (gate is not None and gate.promoted):
        return
    raise CannotStart(
        expected="an origin that passes the gate",
        got=failed_rules(gate) if gate else "no labelled samples to judge it on",
        where=f"task {task_id}",
        now="Import labelled samples or better weights, or overrule the gate and say why.",
    )


def _publish(case: _Case, gate: GateReport | None, overrule: str) -> Release:
    ctx, origin, repo = case.ctx, case.origin, repository(case.ctx)
    channel = ctx.settings.task(origin.task_id).channel
    for release in repo.releases(origin.task_id, channel):
        if release.model_id == origin.model_id:
            return release
    plan = ReleasePlan(
        version=repo.next_version(origin.task_id, channel),
        channel=channel,
        class_list=case.class_list,
        decision_rules=gate.decision_rules
        if gate
        else _default_rules(case.class_list, ctx.settings.task(origin.task_id).decision),
        lineage=Lineage(
            kind="origin",
            snapshot_id=case.snapshot.snapshot_id if case.snapshot else None,
            entered_by=origin.entered_by,
            licence=origin.licence,
            reason="; ".join(filter(None, [origin.reason, overrule])),
        ),
        created_at=origin.entered_at,
    )
    members = case.snapshot.members if case.snapshot else ()
    release, files = build_release(plan, case.exported.onnx, members, case.images)
    repo.publish(release, files)
    return release


def _promote(case: _Case, release: Release) -> None:
    origin = case.origin
    promotion = Promotion(
        release_version=release.version,
        model_id=origin.model_id,
        onnx_key=origin.onnx_key,
        weights_key=origin.weights_key,
        weights_sha256=origin.weights_sha256,
        weights_bytes=origin.weights_bytes,
        class_list_version=origin.class_list_version,
        reason=f"first release: {origin.reason}",
        snapshot_id=case.snapshot.snapshot_id if case.snapshot else None,
    )
    set_champion(case.ctx, origin.task_id, promotion)


def _default_rules(class_list: ClassList, decision: DecisionSettings) -> DecisionRules:
    rules = (
        ClassRule(
            name=name,
            reject_at=REJECT_AT,
            unsure_at=UNSURE_AT,
            min_area_px=decision.min_area_px.get(name, 0.0),
        )
        for name in class_list.names
    )
    return DecisionRules(classes=tuple(rules), min_frames=decision.min_frames, regions=decision.regions)
