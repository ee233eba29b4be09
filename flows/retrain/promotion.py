"""Turn a candidate that passed into a release, bring it to the devices, and make it the champion.

(1) take the release's number, once; (2) build and sign the release; (3) record the rollout and order it;
(4) wait for the devices; (5) make it the champion, or withdraw it when a device took it back. Each step
looks first whether it was done, so that an attempt after a crash goes on and nothing is released twice.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func, select

from fleet_contracts import keys, utc_now
from fleet_contracts.judging import Candidate, GateReport
from fleet_contracts.releases import Lineage, Release, Rollout
from fleet_contracts.training import Precision, SnapshotMember
from flows.champion import Promotion, champion, set_champion
from flows.context import Context
from flows.database.schema import CandidateRow, ChampionRow, RolloutRow
from flows.errors import CannotStart
from flows.files import sha256_of_file
from flows.releases.build import ReleasePlan, build_release
from flows.releases.repository import ReleaseRepository
from flows.retrain.candidates import onnx_name
from flows.retrain.errors import CandidateBroken
from flows.rollouts.rules import ENDED_STATES, start_rollout

log = logging.getLogger("whetstone.retrain")

ROLLOUT_SECONDS = 900.0
"""How long the flow waits for devices; those that are away take the channel's latest when they come back."""


@dataclass(frozen=True, slots=True)
class Winner:
    """Hold a candidate that passed, the very file the gate chose, and what the probes are chosen from."""

    candidate: Candidate
    gate: GateReport
    onnx: Path
    members: tuple[SnapshotMember, ...]


def repository(ctx: Context) -> ReleaseRepository:
    """Return the repository of signed releases."""
    return ReleaseRepository(ctx.store, ctx.path(ctx.settings.releases.keys_folder))


def take_version(ctx: Context, candidate_id: str, published: int) -> int:
    """Give a candidate its release number, or return the one it was given.

    Args:
        ctx: the installation.
        candidate_id: the candidate.
        published: the next number by what the channel shows, which also counts origins' releases.
    """
    with ctx.database.session() as session:
        row = session.get(CandidateRow, candidate_id)
        if row is None:
            raise CannotStart(expected="a recorded candidate", got="none", where=candidate_id)
        if row.release_version is None:
            highest = session.scalar(
                select(func.max(CandidateRow.release_version)).where(
                    CandidateRow.task_id == row.task_id, CandidateRow.channel == row.channel
                )
            )
            row.release_version = max(published, (highest or 0) + 1)
        return row.release_version


def publish(ctx: Context, winner: Winner, image_of: Callable[[str], bytes]) -> Release:
    """Sign a candidate into its channel; the same candidate again is the same release.

    Raises:
        CandidateBroken: the file is not the one that the gate judged and chose (law 6).
    """
    candidate, gate = winner.candidate, winner.gate
    _require_judged(winner)
    channel = ctx.settings.task(candidate.task_id).channel
    releases = repository(ctx)
    version = take_version(ctx, candidate.candidate_id, releases.next_version(candidate.task_id, channel))
    for known in releases.releases(candidate.task_id, channel):
        if known.version == version and known.model_id == gate.candidate_model:
            return known
    before = champion(ctx, candidate.task_id)
    plan = ReleasePlan(
        version=version,
        channel=channel,
        class_list=candidate.class_list,
        decision_rules=gate.decision_rules,
        lineage=Lineage(
            kind="run",
            run_id=candidate.run_id,
            snapshot_id=candidate.snapshot_id,
            parent_model=gate.champion_model if before is not None else None,
            reason="the gate promoted it",
        ),
        precision=_precision_of(candidate, gate),
        # The gate's moment, not this attempt's: the document must come out the same.
        created_at=gate.judged_at,
    )
    release, files = build_release(plan, winner.onnx, winner.members, image_of)
    releases.publish(release, files)
    log.info("retrain.released task=%s version=%d run=%s", release.task_id, version, candidate.run_id)
    return release


def record_rollout(ctx: Context, release: Release, rollout_id: str) -> Rollout:
    """Begin to bring a release to the task's devices, or return the rollout that was begun."""
    devices = ctx.settings.task(release.task_id).devices or _known_devices(ctx, release.task_id)
    with ctx.database.session() as session:
        row = session.get(RolloutRow, rollout_id)
        if row is None:
            made = start_rollout(rollout_id, release, devices, utc_now())
            row = RolloutRow(
                rollout_id=rollout_id,
                task_id=made.task_id,
                channel=made.channel,
                release_version=made.release_version,
                model_id=made.model_id,
                devices=list(made.devices),
                state=made.state,
                started_at=made.started_at,
                ended_at=made.ended_at,
                reason=made.reason,
            )
            session.add(row)
            session.flush()
        return _rollout_of(row)


def await_rollout(
    ctx: Context, rollout_id: str, *, seconds: float = ROLLOUT_SECONDS, poll_seconds: float = 1.0
) -> Rollout:
    """Wait until a rollout ended or the time is over, and return how it is."""
    from flows.ingest.orders import follow

    deadline = time.monotonic() + seconds
    while True:
        follow(ctx)
        with ctx.database.reader() as session:
            row = session.get(RolloutRow, rollout_id)
        if row is None:
            raise CannotStart(expected="a recorded rollout", got="none", where=rollout_id)
        if row.state in ENDED_STATES or time.monotonic() > deadline:
            return _rollout_of(row)
        time.sleep(poll_seconds)


def conclude(ctx: Context, candidate: Candidate, release: Release, rollout: Rollout) -> ChampionRow | None:
    """Make the release's model the champion, or withdraw the release when devices could not run it."""
    from flows.ingest.orders import withdraw

    if rollout.state in ("rolled_back", "failed"):
        withdraw(ctx, rollout)
        return None
    return set_champion(
        ctx,
        candidate.task_id,
        Promotion(
            release_version=release.version,
            model_id=release.model_id,
            onnx_key=keys.candidate(
                candidate.task_id, candidate.candidate_id, onnx_name(candidate, release.model_id)
            ),
            weights_key=keys.candidate(candidate.task_id, candidate.candidate_id, "weights.pt"),
            weights_sha256=candidate.weights_sha256,
            weights_bytes=candidate.weights_bytes,
            class_list_version=candidate.class_list.version,
            reason=f"the gate promoted it; rollout {rollout.state}: {rollout.reason or 'devices still join'}",
            snapshot_id=candidate.snapshot_id,
            run_id=candidate.run_id,
        ),
    )


def note_judged(ctx: Context, gate: GateReport) -> None:
    """Record what the gate said; the first verdict on a candidate stands."""
    with ctx.database.session() as session:
        row = session.get(CandidateRow, gate.candidate_id)
        if row is not None and row.state == "collected":
            row.state = "promoted" if gate.promoted else "refused"
            row.gate = gate.model_dump(mode="json")
            row.model_id = gate.candidate_model
            row.judged_at = gate.judged_at


def failed_rules(gate: GateReport) -> str:
    """Say in one line which rules a candidate broke, and why its other number formats do not ship either."""
    broken: Iterable[str] = (
        f"{one.rule} (expected {one.expected}, got {one.got})" for one in gate.findings if not one.passed
    )
    others: Iterable[str] = (
        f"{one.precision}: {one.why}" for one in gate.variants if one.model_id != gate.candidate_model
    )
    return "; ".join([*broken, *(others if not gate.promoted else ())]) or "every rule passed"


def _require_judged(winner: Winner) -> None:
    found = sha256_of_file(winner.onnx)
    if found != winner.gate.candidate_model:
        raise CandidateBroken(
            expected=f"the file that was judged, with sha256 {winner.gate.candidate_model}",
            got=found,
            where=str(winner.onnx),
            now="Start the flow again; it fetches the candidate's files anew.",
        )


def _precision_of(candidate: Candidate, gate: GateReport) -> Precision:
    formats = {one.model_id: one.precision for one in candidate.variants}
    return formats.get(gate.candidate_model, "fp32")


def _known_devices(ctx: Context, task_id: str) -> tuple[str, ...]:
    from flows.ingest.devices import reports_of

    return tuple(sorted(reports_of(ctx, task_id)))


def _rollout_of(row: RolloutRow) -> Rollout:
    from flows.ingest.orders import rollout_of

    return rollout_of(row)
