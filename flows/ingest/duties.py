"""List what ingest does again and again, whether or not a message asked for it (law 1)."""

from __future__ import annotations

import logging

from flows.ingest import orders
from flows.ingest.desk import Desk
from flows.ingest.link import CloudLink
from flows.ingest.service import Duty
from flows.labels.folder_source import read_label_folder
from flows.releases.errors import KeysMissing
from flows.releases.repository import ReleaseRepository
from flows.settings import Settings
from flows.trigger import check_trigger, emit_ready

log = logging.getLogger("whetstone.flows")

ROLLOUT_SECONDS = 2.0
ORDER_SECONDS = 30.0
RESIGN_SECONDS = 3600.0


def standard_duties(settings: Settings, link: CloudLink) -> tuple[Duty, ...]:
    """Return the duties of an installation."""
    return (
        Duty("sweep", settings.sweep_seconds, Desk.sweep),
        Duty("labels", settings.labels.poll_seconds, look_for_labels),
        Duty("trigger", settings.labels.poll_seconds, check_triggers),
        Duty("rollouts", ROLLOUT_SECONDS, follow_rollouts),
        Duty("orders", ORDER_SECONDS, lambda desk: orders.republish(desk.ctx, link)),
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


def follow_rollouts(desk: Desk) -> None:
    """Bring rollouts on by what devices reported."""
    for rollout in orders.follow(desk.ctx):
        desk.counts[f"rollout.{rollout.state}"] += 1


def resign_releases(desk: Desk) -> None:
    """Sign the release timestamp again, so that boxes can tell that nobody holds updates back."""
    ctx = desk.ctx
    try:
        version = ReleaseRepository(ctx.store, ctx.path(ctx.settings.releases.keys_folder)).resign_timestamp()
    except KeysMissing:
        log.info("releases.no_keys folder=%s", ctx.settings.releases.keys_folder)
        return
    log.info("releases.timestamp_signed version=%d", version)
