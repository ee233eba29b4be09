"""Say how a machine is by its run and its fleet; pure.

    run: pending -> submitted -> provisioning -> running -> terminating -> terminated | failed | done
    instance: pending -> provisioning -> idle | busy -> terminating -> terminated

A run that is over says nothing of its instance: dstack ends that later, and may fail to. A machine has ended
when both have.
"""

from __future__ import annotations

from typing import Any

from flows.gpus.base import MachineStatus

OVER = frozenset({"terminated", "failed", "done"})
MOST_LETTERS = 300
"""How much of dstack's own explanation is passed on."""


def is_over(run: dict[str, Any]) -> bool:
    """Tell whether a run has ended; a state nobody knows has not."""
    return run.get("status") in OVER


def live_instances(fleet: dict[str, Any] | None) -> tuple[str, ...]:
    """Return the instances of a fleet that may still cost, each with its state."""
    instances = fleet.get("instances") or () if fleet else ()
    return tuple(f"{one['name']} is {one['status']}" for one in instances if one["status"] != "terminated")


def is_open(fleet: dict[str, Any]) -> bool:
    """Tell whether a fleet costs or could: one that is being deleted starts nothing any more."""
    return fleet.get("status") != "terminating" or bool(live_instances(fleet))


def status_of(run: dict[str, Any] | None, fleet: dict[str, Any] | None) -> MachineStatus:
    """Return how a machine is; `fleet` may be None while the run goes on."""
    if run is not None and not is_over(run):
        return MachineStatus("running", explain(run))
    left = live_instances(fleet)
    if left:
        return MachineStatus("running", f"its run is over, {', '.join(left)}")
    return MachineStatus("gone") if run is None else MachineStatus("ended", explain(run))


def explain(run: dict[str, Any]) -> str:
    """Return in words why a run is as it is, as far as dstack tells.

    >>> explain({"status": "failed", "termination_reason": "job_failed", "latest_job_submission":
    ...          {"termination_reason": "interrupted_by_no_capacity"}})
    'failed: interrupted_by_no_capacity'
    """
    job = run.get("latest_job_submission") or {}
    state = str(run.get("status_message") or run.get("status"))
    reason = job.get("termination_reason") or run.get("termination_reason")
    message = job.get("termination_reason_message") or run.get("error")
    status = job.get("exit_status")
    parts = [str(part) for part in (reason, message) if part]
    parts += [f"exit status {status}"] if status is not None else []
    told = " ".join(", ".join(parts).split())
    return f"{state}: {told}"[:MOST_LETTERS] if parts else state
