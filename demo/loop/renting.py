"""Gather what renting came to, once a demo on the simulated cloud is over."""

from __future__ import annotations

from datetime import timedelta

from demo.loop.beginning import beginning_of_run
from demo.loop.cloud import INSTALLATION, NAME
from demo.report.rented import Rented, Span, first_step_of
from fleet_contracts import utc_now
from fleet_contracts.training import Lease, RunEvent, TrainPlan
from flows.context import Context
from flows.gpus.money import cost_of
from flows.gpus.settings import SimulatedSection
from flows.gpus.simulated.cloud import Instance
from flows.gpus.simulated.provider import SimulatedProvider
from flows.retrain.uploads import Uploads
from flows.tracking.story import Story


def rented_of(ctx: Context, story: Story, section: SimulatedSection | None) -> Rented | None:
    """Return what a run's renting came to; None where it trained on this machine, or left no plan."""
    if section is None or story.plan is None:
        return None
    cloud = SimulatedProvider(NAME, section, INSTALLATION, ctx.folder).cloud
    events = events_of(ctx, story.plan)
    spans = tuple(
        _span(lease, found, events)
        for lease in story.leases
        if lease.machine and (found := cloud.find(lease.machine)) is not None
    )
    if not spans:
        return None
    cheapest = min(one.price for one in section.regions)
    return Rented(spans, events, cheapest, beginning_of_run(ctx, story, spans))


def events_of(ctx: Context, plan: TrainPlan) -> tuple[RunEvent, ...]:
    """Return every event of a run, in order."""
    return tuple(Uploads(ctx.store, plan).new_events())


def beginning_of(lease_id: str, events: tuple[RunEvent, ...]) -> dict[str, float] | None:
    """Return the seconds a lease's machine took to its first step, by part; None where it took none."""
    for event in events:
        evidence = event.data.get("evidence")
        if event.data.get("kind") == "start" and event.data.get("lease") == lease_id:
            assert isinstance(evidence, dict)
            return {name: float(str(seconds)) for name, seconds in evidence.items()}
    return None


def _span(lease: Lease, found: Instance, events: tuple[RunEvent, ...]) -> Span:
    now, began = utc_now(), beginning_of(lease.lease_id, events)
    until = found.ended_at or now
    told = None
    if found.booted_at is not None and began is not None:
        told = found.booted_at + timedelta(seconds=began["seconds"])
    ordered = found.order.ordered_at
    return Span(
        region=found.region,
        spot=found.order.spot,
        price=found.order.price,
        ordered_at=ordered,
        booted_at=found.booted_at,
        ended_at=until,
        why=found.why or "it still runs",
        cost=cost_of(lease, now) or 0.0,
        bill=found.bill(now),
        first_step_at=first_step_of(ordered, told, [one for one in events if one.at <= until]),
        began=began,
    )
