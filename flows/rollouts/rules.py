r"""Move a rollout from state to state by what devices report: pure, no clock, no broker, no database.

    waiting -> rolling -> done
                      \-> rolled_back        a device could not run the release, or took it back
    failed                                   given up by a person or a deadline

Ended rollouts never change again; a fleet goes back by another rollout, made by `going_back`. Reports are
hints that may come twice, late and out of order, so only what they say of this very rollout counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from fleet_contracts.releases import DeviceReport, Release, Rollout, RolloutOrder

SERVING_STATES = ("serving", "degraded")
"""`degraded` serves too: something else on the box needs a look."""
ENDED_STATES = ("done", "rolled_back", "failed")


def start_rollout(rollout_id: str, release: Release, devices: Sequence[str], now: datetime) -> Rollout:
    """Begin to bring a release to devices, all of them in one wave.

    Without devices there is nothing to wait for: boxes that join later follow the channel's latest.
    """
    empty = not devices
    return Rollout(
        task_id=release.task_id, rollout_id=rollout_id, channel=release.channel,
        release_version=release.version, model_id=release.model_id, devices=tuple(sorted(set(devices))),
        state="done" if empty else "rolling", started_at=now, ended_at=now if empty else None,
        reason="no device is listed; boxes take the channel's latest when they join" if empty else "")


def advance(rollout: Rollout, reports: Iterable[DeviceReport], now: datetime) -> Rollout:
    """Return the rollout after what its devices reported last.

    One device that took the release back ends it, with that device's own words as the reason (law 10).
    It is done when every listed device serves the release.
    """
    if rollout.state in ENDED_STATES:
        return rollout
    latest = _latest_by_device(rollout, reports)
    for device in rollout.devices:
        report = latest.get(device)
        if report is not None and _took_back(rollout, report):
            reason = f"{device} rolled back: {report.problem or 'no reason given'}"
            return _ended(rollout, "rolled_back", reason, now)
    serving = [device for device in rollout.devices if device in latest and _serves(rollout, latest[device])]
    if len(serving) == len(rollout.devices):
        reason = f"all {len(serving)} devices serve release {rollout.release_version}"
        return _ended(rollout, "done", reason, now)
    return rollout.model_copy(update={"state": "rolling"})


def give_up(rollout: Rollout, reason: str, now: datetime) -> Rollout:
    """End a rollout that a person or a deadline gave up on; an ended one stays as it ended."""
    return rollout if rollout.state in ENDED_STATES else _ended(rollout, "failed", reason, now)


def going_back(rollout: Rollout, release: Release, now: datetime) -> Rollout:
    """Begin the rollout that brings the same devices back to an older release, under a name of its own."""
    return start_rollout(f"{rollout.rollout_id}-back", release, rollout.devices, now)


def missing_devices(rollout: Rollout, reports: Iterable[DeviceReport]) -> tuple[str, ...]:
    """Return the listed devices that do not serve the release yet, for people who wait."""
    latest = _latest_by_device(rollout, reports)
    return tuple(device for device in rollout.devices
                 if device not in latest or not _serves(rollout, latest[device]))


def orders_of(rollout: Rollout) -> tuple[RolloutOrder, ...]:
    """Return one order per device; the same rollout gives the same orders, so they may be sent again."""
    return tuple(
        RolloutOrder(task_id=rollout.task_id, device_id=device, rollout_id=rollout.rollout_id,
                     channel=rollout.channel, release_version=rollout.release_version,
                     issued_at=rollout.started_at)
        for device in rollout.devices)


def _latest_by_device(rollout: Rollout, reports: Iterable[DeviceReport]) -> dict[str, DeviceReport]:
    latest: dict[str, DeviceReport] = {}
    for report in reports:
        known = latest.get(report.device_id)
        if report.task_id == rollout.task_id and (known is None or report.reported_at >= known.reported_at):
            latest[report.device_id] = report
    return latest


def _serves(rollout: Rollout, report: DeviceReport) -> bool:
    return (report.state in SERVING_STATES and report.release_version == rollout.release_version
            and report.model_id == rollout.model_id)


def _took_back(rollout: Rollout, report: DeviceReport) -> bool:
    return report.state == "rolled_back" and report.rollout_id == rollout.rollout_id


def _ended(rollout: Rollout, state: str, reason: str, now: datetime) -> Rollout:
    return rollout.model_copy(update={"state": state, "reason": reason, "ended_at": now})
