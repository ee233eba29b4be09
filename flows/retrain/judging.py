"""Bring a case before the gate: the candidate's own ONNX file, the champion's, and the snapshot's images.

The verdict is written once: `gate.json` in the bucket stands, whatever another attempt would find.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from fleet_contracts import decode, encode, keys
from fleet_contracts.judging import Candidate, GateReport
from fleet_contracts.releases import Release
from flows.champion import champion
from flows.context import Context
from flows.database.schema import ChampionRow
from flows.errors import CannotStart, StoreMissing
from flows.files import sha256_of_file, write_file
from flows.retrain.candidates import Collected
from flows.retrain.errors import CandidateBroken
from flows.retrain.promotion import note_judged, repository
from flows.snapshots.cut import Snapshot
from trainer.gate.judge import Champion, JudgeInputs, judge
from trainer.gate.settings import GateSettings

log = logging.getLogger("whetstone.retrain")


def judge_candidate(ctx: Context, collected: Collected, snapshot: Snapshot) -> GateReport:
    """Return the verdict on a candidate: the one that stands, or a new one.

    Raises:
        CandidateBroken: the verdict that stands is on another model.
        CannotStart: the champion's release or file is not there, so there is nothing to compare with.
    """
    candidate = collected.candidate
    key = keys.candidate(candidate.task_id, candidate.candidate_id, "gate.json")
    try:
        report = decode(GateReport, ctx.store.get(key), where=key)
    except StoreMissing:
        report = _judge(ctx, collected, snapshot)
        ctx.store.put(key, encode(report))
    _require_about(report, candidate, key)
    note_judged(ctx, report)
    log.info("retrain.judged candidate=%s promoted=%s", candidate.candidate_id, report.promoted)
    return report


def image_reader(ctx: Context, task_id: str, folder: Path) -> Callable[[str], bytes]:
    """Return a function that reads a sample's image, keeping each in a folder for the next reading."""

    def read(sample_id: str) -> bytes:
        path = folder / f"{sample_id}.jpg"
        if path.exists():
            return path.read_bytes()
        content = ctx.store.get(keys.sample_image(task_id, sample_id))
        write_file(path, content)
        return content

    return read


def gate_settings(ctx: Context, task_id: str) -> GateSettings:
    """Return how strict a task's gate is."""
    return ctx.settings.task(task_id).gate


def _judge(ctx: Context, collected: Collected, snapshot: Snapshot) -> GateReport:
    candidate, folder = collected.candidate, collected.onnx.parent
    before = champion(ctx, candidate.task_id)
    inputs = JudgeInputs(
        candidate=candidate,
        onnx=collected.onnx,
        members=snapshot.members,
        image_of=image_reader(ctx, candidate.task_id, folder / "images"),
        champion=None if before is None else _opponent(ctx, before, folder),
        settings=gate_settings(ctx, candidate.task_id),
        decision=ctx.settings.task(candidate.task_id).decision.options(),
        pictures=folder / "pictures",
        variants=collected.variants,
    )
    report = judge(inputs)
    _keep_pictures(ctx, candidate, report, folder / "pictures")
    return report


def _require_about(report: GateReport, candidate: Candidate, key: str) -> None:
    there = {candidate.model_id, *(one.model_id for one in candidate.variants)}
    if report.candidate_model not in there:
        raise CandidateBroken(
            expected=f"a verdict on one of the models {sorted(there)}",
            got=f"one on {report.candidate_model}",
            where=key,
            now="The run's result was replaced after it was judged; nothing is released.",
        )


def _opponent(ctx: Context, before: ChampionRow, folder: Path) -> Champion:
    onnx = folder / "champion.onnx"
    ctx.store.get_file(before.onnx_key, onnx)
    found = sha256_of_file(onnx)
    if found != before.model_id:
        raise CannotStart(
            expected=f"the champion's ONNX file with sha256 {before.model_id}",
            got=found,
            where=before.onnx_key,
            now="Put the champion's own file back; its release holds the same bytes.",
        )
    return Champion(onnx=onnx, decision_rules=_release_of(ctx, before).decision_rules)


def _release_of(ctx: Context, row: ChampionRow) -> Release:
    channel = ctx.settings.task(row.task_id).channel
    for release in repository(ctx).releases(row.task_id, channel):
        if release.version == row.release_version and release.model_id == row.model_id:
            return release
    raise CannotStart(
        expected=f"the champion's release {row.release_version}",
        got="none of that number and model",
        where=f"channel {row.task_id}/{channel}",
        now="Look into the releases prefix of the bucket; the champion's decision rules are kept there.",
    )


def _keep_pictures(ctx: Context, candidate: Candidate, report: GateReport, folder: Path) -> None:
    for name in report.pictures:
        ctx.store.put_file(keys.candidate(candidate.task_id, candidate.candidate_id, name), folder / name)
