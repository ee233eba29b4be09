"""Check this machine before anything large is copied to it, and say why where it is not fit.

(1) Say what the plan counts on.
(2) See what is here: the driver where the plan counts on cards, disk and memory, and the line to the bucket.
(3) Judge. What is grave ends the run on this machine; the rest is told and the run goes on.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fleet_contracts.base import utc_now
from fleet_contracts.renting import OFFER
from fleet_contracts.training import SnapshotMember, TrainPlan, TrainTicket
from trainer.cache import ObjectCache
from trainer.errors import MachineUnfit
from trainer.fitness import measure
from trainer.fitness.facts import Already, Finding, MachineSeen, Need
from trainer.fitness.needs import need_of, promised
from trainer.fitness.rules import judge
from trainer.fitness.torch_build import installed_torch
from trainer.wire import HttpWire, Wire

_log = logging.getLogger("whetstone.trainer")
DATASET = "dataset"
"""Folder of a run's staged images, within its own."""


def _quick_wire() -> Wire:
    return HttpWire(connect_seconds=5.0, read_seconds=5.0)


@dataclass(frozen=True, slots=True)
class Check:
    """Check one machine.

    Args:
        thorough: check also where the plan counts on no card, and ask the line to the bucket, which takes up
            to three seconds: on a machine that was rented, waiting is paid for.
        environment: says what was rented, and may name a simulated driver.
        wire: makes a way to the store of the check's own.
        done: share of the training that earlier machines did.
    """

    thorough: bool = False
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    wire: Callable[[], Wire] = _quick_wire
    done: float = 0.0

    def __call__(
        self,
        plan: TrainPlan,
        ticket: TrainTicket,
        members: Sequence[SnapshotMember],
        work_dir: Path,
        cache: ObjectCache,
    ) -> tuple[Finding, ...]:
        """Return what is not as the plan counts on, and worth no more than a word.

        Raises:
            MachineUnfit: the run would fail here, or pay for less than was promised; all reasons are told.
        """
        if not self.thorough and not _counts_on_a_card(plan):
            return ()
        began = time.monotonic()
        if plan.offer is not None:
            # A run moves to what fits, which may be other cards: a machine is held against its own offer.
            rented = promised(self.environment.get(OFFER, ""), plan.offer)
            plan = plan.model_copy(update={"offer": rented})
        # (1)
        cached = cache.bytes_of(one.sha256 for one in (*ticket.shards, ticket.start_weights))
        here = Already(cached, measure.disk_taken(work_dir / DATASET), self.done)
        need = need_of(plan, ticket, members, utc_now(), here)
        # (2)
        seen = self._see(need, ticket, work_dir)
        # (3)
        findings = judge(seen, need)
        _log.info(
            "trainer.checked seconds=%.2f cards=%s disk_free_mib=%s bytes_per_second=%s findings=%s",
            time.monotonic() - began, [one.name for one in seen.driver.cards] if seen.driver else [],
            seen.disk_free_bytes >> 20, round(seen.line.bytes_per_second or 0) if seen.line else "",
            [f"{one.what}: {one.why}" for one in findings],
        )  # fmt: skip
        _require(plan, findings)
        return findings

    def _see(self, need: Need, ticket: TrainTicket, work_dir: Path) -> MachineSeen:
        largest = max((*ticket.shards, ticket.start_weights), key=lambda one: one.size_bytes)
        return MachineSeen(
            driver=measure.see_driver(self.environment) if need.cards else None,
            torch=installed_torch(),
            disk_free_bytes=measure.disk_free(work_dir),
            memory_bytes=measure.memory(),
            line=measure.see_line(self.wire(), largest) if self.thorough and need.data_bytes else None,
        )


def _counts_on_a_card(plan: TrainPlan) -> bool:
    return plan.offer is not None and plan.offer.gpu_memory_mib > 0


def _require(plan: TrainPlan, findings: Iterable[Finding]) -> None:
    reasons = tuple(f"{one.what}: {one.why}" for one in findings if one.grave)
    if not reasons:
        return
    offer = plan.offer
    wanted = f"{offer.gpu_count} x {offer.gpu} of {offer.provider}" if offer is not None else "a machine"
    error = MachineUnfit(expected=f"{wanted} as planned", got="; ".join(reasons), where="this machine")
    error.reasons = reasons
    raise error
