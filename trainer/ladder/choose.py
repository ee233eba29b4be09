"""Choose the next rung: the first that has something to give, and further where that would not fit; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fleet_contracts.training import MemoryPolicy
from trainer.backend_job import BackendJob
from trainer.ladder.expect import Outlook, expected_bytes, host_relief
from trainer.ladder.rungs import LADDERS, Place, Step
from trainer.memory.trouble import Trouble

_NOTHING_KNOWN = Outlook()


@dataclass(frozen=True, slots=True)
class Rung:
    """Hold one step down: the changed job, why, and what memory was seen.

    `changed` maps a field of `BackendJob` to its old and new value (see `differences`); `must_show` is what
    the child has to report as in force; `expected_bytes` what the changed job is expected to take, None where
    nobody knows.
    """

    name: str
    job: BackendJob
    reason: str
    seen: Trouble
    expected_bytes: int | None
    changed: dict[str, tuple[Any, Any]]
    must_show: dict[str, Any]
    ships: bool = False


def next_rung(
    job: BackendJob, trouble: Trouble, policy: MemoryPolicy, outlook: Outlook = _NOTHING_KNOWN
) -> Rung | None:
    """Return the rung to take after memory ran out, or None at the end of the ladder.

    Rungs that leave the outcome as it is are jumped over when they are expected not to fit; those that change
    training or what ships are never taken on a prediction alone.
    """
    steps: list[Step] = []
    now = job
    while True:
        step, changes = _first_step(Place(now, trouble, policy, outlook.in_force if now is job else {}))
        jumping = bool(steps)
        if step is None or changes is None or (jumping and not step.same_outcome):
            break
        now = now.model_copy(update=changes)
        steps.append(step)
        if not step.same_outcome or _may_fit(now, job, trouble, outlook):
            break
    return _rung(job, now, steps, (trouble, outlook)) if steps else None


def differences(before: BackendJob, after: BackendJob) -> dict[str, tuple[Any, Any]]:
    """Return the fields in which two jobs differ, with both values.

    A value within a field that holds several is named `field.value`; None where the field does not have it.
    """
    old, new = before.model_dump(mode="json"), after.model_dump(mode="json")
    found: dict[str, tuple[Any, Any]] = {}
    for name in old:
        if isinstance(old[name], dict) and isinstance(new[name], dict):
            inner = {**old[name], **new[name]}
            pairs = {one: (old[name].get(one), new[name].get(one)) for one in inner}
            found |= {f"{name}.{one}": pair for one, pair in pairs.items() if pair[0] != pair[1]}
        elif old[name] != new[name]:
            found[name] = (old[name], new[name])
    return found


def _first_step(place: Place) -> tuple[Step | None, dict[str, Any] | None]:
    for step in LADDERS[place.trouble.kind]:
        changes = step.changes(place)
        if changes is not None:
            return step, changes
    return None, None


def _may_fit(job: BackendJob, before: BackendJob, trouble: Trouble, outlook: Outlook) -> bool:
    """Say whether a changed job is worth a start; where nobody knows, it is."""
    if trouble.kind == "host":
        relief = host_relief(job, before, trouble, outlook.images)
        return relief is None or relief >= trouble.asked_bytes
    expected = expected_bytes(job, before, trouble, outlook)
    return expected is None or expected <= trouble.limit_bytes


def _rung(before: BackendJob, after: BackendJob, steps: list[Step], known: tuple[Trouble, Outlook]) -> Rung:
    trouble, outlook = known
    names = list(dict.fromkeys(step.name for step in steps))
    reason = trouble.in_words()
    if len(steps) > 1:
        reason += f"; {len(steps)} rungs at once, since fewer are expected not to be enough"
    shown: dict[str, Any] = {}
    for step in steps:
        shown |= step.must_show(after)
    return Rung(
        name="+".join(names), job=after, reason=reason, seen=trouble,
        expected_bytes=expected_bytes(after, before, trouble, outlook), changed=differences(before, after),
        must_show=shown, ships=any(step.ships for step in steps),
    )  # fmt: skip
