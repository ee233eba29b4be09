"""List what ingest does again and again, whether or not a message asked for it (law 1)."""

from __future__ import annotations

import logging

from fleet_contracts.releases import Rollout
from flows.ingest import orders
from flows.ingest.captures import CaptureDuty
from flows.ingest.desk import Desk
from flows.ingest.link import CloudLink
from flows.ingest.service import Duty
from flows.labels.folder_source import read_label_folder
from flows.releases.errors import KeysMissing, ReleaseError
from flows.releases.repository import ReleaseRepository
from flows.settings import Settings
from flows.trigger import check_trigger, emit_ready

log = logging.getLogger("whetstone.flows")

ROLLOUT_SECONDS = 2.0
ORDER_SECONDS = 30.0
CAPTURE_SECONDS = 2.0
RESIGN_SECONDS = 3600.0


def standard_duties(settings: Settings, link: CloudLink) -> tuple[Duty, ...]:
    """Return the duties of an installation."""
    captures = CaptureDuty(link)
    return (
        Duty("sweep", settings.sweep_seconds, Desk.sweep),
        Duty("labels", settings.labels.poll_seconds, look_for_labels),
        Duty("trigger", settings.labels.poll_seconds, check_triggers),
        Duty("rollouts", ROLLOUT_SECONDS, RolloutDuty()),
        Duty("orders", ORDER_SECONDS, lambda desk: orders.republish(desk.ctx, link)),
        Duty("captures", CAPTURE_SECONDS, lambda desk: captures(desk.ctx)),
        Duty("resign", RESIGN_SECONDS, resign_releases),
    )


def look_for_labels(desk: Desk) -> None:
    """Take in new label files of every task."""
    for task_id in desk.ctx.settings.tasks:
        report = read_label_folder(desk.ctx, task_id)
        desk.counts["labels.new"] += report.new_labels
        desk.counts["labels.refused"] += len(report.refused)
        if report.problem:
            log.warning("labels.problem task=%s %s", task_id, report.problem)
        for reason in report.refused:
            log.warning("labels.refused task=%s %s", task_id, reason)


def check_triggers(desk: Desk) -> None:
    """Ask for a run of every task that has enough new labels."""
    for task_id in desk.ctx.settings.tasks:
        decision = check_trigger(desk.ctx, task_id)
        if decision.asked and emit_ready(desk.ctx, decision, events=desk.events):
            desk.counts["trigger.emitted"] += 1


class RolloutDuty:
    """Bring rollouts on by what devices reported, and withdraw releases that devices took back.

    The flow that ordered a rollout withdraws its release too, but waits for devices a limited time only.
    """

    def __init__(self) -> None:
        self._settled: set[str] = set()
        """Rollouts looked at since the process began; a withdrawn release is never allowed again."""

    def __call__(self, desk: Desk) -> None:
        """Do one round."""
        for rollout in orders.follow(desk.ctx):
            desk.counts[f"rollout.{rollout.state}"] += 1
        for rollout in orders.taken_back(desk.ctx):
            if rollout.rollout_id not in self._settled:
                self._settle(desk, rollout)

    def _settle(self, desk: Desk, rollout: Rollout) -> None:
        try:
            withdrawn = orders.withdraw(desk.ctx, rollout)
        except ReleaseError as error:
            # Said once, not every round; the next start of the process looks again.
            log.warning("rollout.not_withdrawn rollout=%s error=%s", rollout.rollout_id, error)
            withdrawn = False
        self._settled.add(rollout.rollout_id)
        if withdrawn:
            desk.counts["release.withdrawn"] += 1
            log.warning(
                "rollout.withdrawn rollout=%s version=%d reason=%s",
                rollout.rollout_id, rollout.release_version, rollout.reason,
            )  # fmt: skip


def resign_releases(desk: Desk) -> None:
    """Sign the release timestamp again, so that boxes can tell that nobody holds updates back."""
    ctx = desk.ctx
    try:
        version = ReleaseRepository(ctx.store, ctx.path(ctx.settings.releases.keys_folder)).resign_timestamp()
    except KeysMissing:
        log.info("releases.no_keys folder=%s", ctx.settings.releases.keys_folder)
        return
    log.info("releases.timestamp_signed version=%d", version)
