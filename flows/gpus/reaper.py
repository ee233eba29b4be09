"""End whatever no live lease owns, and every lease past its deadline; independent of any flow (law 8).

`judge` is the rule, pure; `reap` asks the provider and does what the rule says. A provider that does not
answer is asked again at the next round: nothing is believed to be gone because nobody answered.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from fleet_contracts import utc_now
from fleet_contracts.training import Lease
from flows.errors import FlowsError
from flows.gpus.base import GpuProvider, Machine
from flows.gpus.leases import LeaseBook

log = logging.getLogger("whetstone.gpus")

EVERY_SECONDS = 10.0
LAUNCH_GRACE = timedelta(minutes=15)
"""How long a lease may stay recorded without a machine: longer than any launch call takes."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """Say what to end and why; `lease_id` is empty when only a machine is to end, and the other way round."""

    machine: str
    lease_id: str
    reason: str


def judge(machines: Sequence[Machine], live: Iterable[Lease], now: datetime) -> tuple[Sentence, ...]:
    """Return what has to end now.

    Args:
        machines: all of one provider's machines that are ours.
        live: the leases with that provider that have not ended.
        now: the present moment.
    """
    leases = {lease.lease_id: lease for lease in live}
    running = {machine.lease_id: machine.machine for machine in machines}
    orphans = [
        Sentence(machine.machine, "", "no live lease owns it")
        for machine in machines
        if machine.lease_id not in leases
    ]
    over = [
        Sentence(running.get(lease.lease_id, lease.machine), lease.lease_id, "its deadline passed")
        for lease in leases.values()
        if lease.deadline <= now
    ]
    forgotten = [
        Sentence("", lease.lease_id, "it never got a machine")
        for lease in leases.values()
        if lease.state == "recorded"
        and lease.deadline > now
        and lease.lease_id not in running
        and lease.recorded_at + LAUNCH_GRACE <= now
    ]
    return (*orphans, *over, *forgotten)


def reap(
    book: LeaseBook, providers: Iterable[GpuProvider], *, now: datetime | None = None
) -> tuple[Sentence, ...]:
    """Do one round over all providers and return what was ended."""
    done: list[Sentence] = []
    for provider in providers:
        try:
            # Machines before leases: one that starts in between has its lease in the later answer.
            machines = provider.list_ours()
            for sentence in judge(machines, book.live(provider=provider.name), now or utc_now()):
                _carry_out(book, provider, sentence)
                done.append(sentence)
        except FlowsError as error:
            log.warning("gpus.reap_failed provider=%s error=%s", provider.name, error)
    return tuple(done)


def reap_until(stop: threading.Event, book: LeaseBook, providers: Sequence[GpuProvider]) -> None:
    """Do a round every ten seconds until told to stop."""
    while not stop.wait(EVERY_SECONDS):
        reap(book, providers)


def _carry_out(book: LeaseBook, provider: GpuProvider, sentence: Sentence) -> None:
    if sentence.machine:
        provider.terminate(sentence.machine)
    if sentence.lease_id:
        book.end(sentence.lease_id, sentence.reason)
    log.warning(
        "gpus.reaped provider=%s machine=%s lease=%s reason=%s",
        provider.name, sentence.machine, sentence.lease_id, sentence.reason,
    )  # fmt: skip
