"""End whatever no live lease owns, every lease past its deadline, and those of closed runs (law 8).

It depends on no flow. `judge` is the rule, pure; `look_after` asks a provider and does what the rule says.
A provider that does not answer is asked again at the next round: nothing is believed to be gone because
nobody answered. One that refuses our token is worse, since no later round will do better: it is told apart.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from fleet_contracts.training import Lease
from flows.errors import FlowsError
from flows.gpus.base import GpuProvider, Machine
from flows.gpus.errors import TokenRefused
from flows.gpus.leases import LeaseBook, end_machine

log = logging.getLogger("whetstone.gpus")

LAUNCH_GRACE = timedelta(minutes=15)
"""How long a lease may stay recorded without a machine: longer than any launch call takes."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """Say what to end and why; `lease_id` is empty when only a machine is to end, and the other way round."""

    machine: str
    lease_id: str
    reason: str


def judge(
    machines: Sequence[Machine],
    live: Iterable[Lease],
    now: datetime,
    closed: frozenset[str] = frozenset(),
) -> tuple[Sentence, ...]:
    """Return what has to end now.

    Args:
        machines: all of one provider's machines that are ours.
        live: the leases with that provider that have not ended.
        now: the present moment.
        closed: runs that are closed: nobody waits for what their machines still do.
    """
    leases = {lease.lease_id: lease for lease in live}
    running = _first_of_each(machines, leases)
    orphans = [
        Sentence(machine.machine, "", "no live lease owns it")
        for machine in machines
        if machine.lease_id not in leases
    ]
    doubles = [
        Sentence(machine.machine, "", "its lease has another machine")
        for machine in machines
        if machine.lease_id in leases and machine.machine != running[machine.lease_id]
    ]
    over = [
        Sentence(running.get(lease.lease_id, lease.machine), lease.lease_id, why)
        for lease in leases.values()
        if (why := _why_over(lease, now, closed))
    ]
    forgotten = [
        Sentence("", lease.lease_id, "it never got a machine")
        for lease in leases.values()
        if lease.state == "recorded"
        and not _why_over(lease, now, closed)
        and lease.lease_id not in running
        and (lease.asked_at or lease.recorded_at) + LAUNCH_GRACE <= now
    ]
    return (*orphans, *doubles, *over, *forgotten)


@dataclass(frozen=True, slots=True)
class Round:
    """Say what one look at one provider came to.

    `answered` tells whether it named all our machines, `locked_out` that only a person can help: it refused
    our token, or cannot be asked at all. `trouble` is what went wrong, "" when nothing did.
    """

    provider: str
    ended: tuple[Sentence, ...] = ()
    answered: bool = True
    locked_out: bool = False
    trouble: str = ""


def reap(
    book: LeaseBook, providers: Iterable[GpuProvider], *, now: datetime | None = None
) -> tuple[Sentence, ...]:
    """Do one round over all providers and return what was ended."""
    rounds = [look_after(book, provider, now=now) for provider in providers]
    return tuple(sentence for one in rounds for sentence in one.ended)


def look_after(book: LeaseBook, provider: GpuProvider, *, now: datetime | None = None) -> Round:
    """Ask one provider what is ours, end what has to end, and say what came of it; raises nothing."""
    try:
        # Machines before leases: one that starts in between has its lease in the later answer.
        machines = provider.list_ours()
        live = book.live(provider=provider.name)
        # Runs last: one that is opened again before it rents anew is not taken for closed.
        sentences = judge(machines, live, now or book.now(), book.closed_runs(live))
    except Exception as error:  # noqa: BLE001 - one adapter's fault must not keep the others' machines alive
        _tell(provider, error)
        return Round(provider.name, (), answered=False, locked_out=_is_locked(error), trouble=_words(error))
    done: list[Sentence] = []
    troubles: list[Exception] = []
    for sentence in sentences:
        # One machine that cannot be ended just now must not keep the others alive.
        try:
            _carry_out(book, provider, sentence)
        except Exception as error:  # noqa: BLE001 - as above
            _tell(provider, error)
            troubles.append(error)
        else:
            done.append(sentence)
    locked = any(map(_is_locked, troubles))
    return Round(provider.name, tuple(done), not locked, locked, "; ".join(map(_words, troubles)))


def _why_over(lease: Lease, now: datetime, closed: frozenset[str]) -> str:
    if lease.run_id in closed:
        return "its run is closed"
    # One that was called off says why; see `LeaseBook.call_off`.
    return (lease.end_reason or "its deadline passed") if lease.deadline <= now else ""


def _first_of_each(machines: Sequence[Machine], leases: dict[str, Lease]) -> dict[str, str]:
    """Return the machine each lease keeps: the one it names, else the one the next attempt would take."""
    kept: dict[str, str] = {}
    for machine in sorted(machines, key=lambda one: one.machine):
        lease = leases.get(machine.lease_id)
        if lease is not None and lease.machine:
            kept[machine.lease_id] = lease.machine
        else:
            kept.setdefault(machine.lease_id, machine.machine)
    return kept


def _carry_out(book: LeaseBook, provider: GpuProvider, sentence: Sentence) -> None:
    if sentence.machine:
        end_machine(provider, sentence.machine)
    if sentence.lease_id:
        book.end(sentence.lease_id, sentence.reason)
    log.warning(
        "gpus.reaped provider=%s machine=%s lease=%s reason=%s",
        provider.name, sentence.machine, sentence.lease_id, sentence.reason,
    )  # fmt: skip


def _tell(provider: GpuProvider, error: Exception) -> None:
    if isinstance(error, FlowsError):
        log.warning("gpus.reap_failed provider=%s error=%s", provider.name, error)
    else:
        log.error("gpus.reap_failed provider=%s error=%r", provider.name, error, exc_info=error)


def _is_locked(error: Exception) -> bool:
    return isinstance(error, TokenRefused)


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, FlowsError) else repr(error)
