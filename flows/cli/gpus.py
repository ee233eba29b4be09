"""Look after rented machines: `whetstone gpus offers|list|cost|check|end`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from flows.cli.common import DEFAULT_FOLDER, Folder, console, installation

if TYPE_CHECKING:
    from fleet_contracts.training import GpuOffer, Lease
    from flows.context import Context
    from flows.gpus.checking import Checked
    from flows.tracking.costs import RunCost

AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]
_NONE = "-"


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    group = typer.Typer(help="See what may be rented, what is, and what it costs.", no_args_is_help=True)
    group.command("offers")(offers)
    group.command("list")(list_machines)
    group.command("cost")(cost)
    group.command("check")(check)
    group.command("end")(end)
    app.add_typer(group, name="gpus")


def offers(
    provider: Annotated[str, typer.Option("--provider", "-p", help="only of this provider")] = "",
    limit: Annotated[int, typer.Option(min=1, help="how many, cheapest first")] = 40,
    folder: Folder = DEFAULT_FOLDER,
    as_json: AsJson = False,
) -> None:
    """List what could be rented now, cheapest first; prices in dollars an hour."""
    from fleet_contracts import utc_now
    from flows.gpus.checking import offers_now

    with installation(folder) as ctx:
        known, broken = _lenders(ctx, provider)
        found, away = offers_now(known)
    if as_json:
        typer.echo(json.dumps([offer.model_dump(mode="json") for offer in found[:limit]], indent=1))
        return
    table = Table("provider", "GPU", "memory", "on demand", "spot", "region", "price from", "age", "offer")
    for offer in found[:limit]:
        table.add_row(*map(escape, _offer_cells(offer, (utc_now() - offer.priced_at).total_seconds())))
    console.print(table if found else "nothing is offered")
    if len(found) > limit:
        console.print(f"{len(found) - limit} more; see --limit", highlight=False)
    _tell(broken | away)


def list_machines(
    everything: Annotated[bool, typer.Option("--all", help="also leases that have ended")] = False,
    folder: Folder = DEFAULT_FOLDER,
    as_json: AsJson = False,
) -> None:
    """List live leases, and every machine of ours that providers name, also one without a lease."""
    from fleet_contracts import utc_now
    from flows.gpus.checking import machines_now
    from flows.gpus.leases import LeaseBook

    with installation(folder) as ctx:
        book = LeaseBook(ctx.database)
        leases = _all_leases(ctx, book) if everything else book.live()
        known, broken = _lenders(ctx, "")
        machines, away = machines_now(known)
    owned = {lease.lease_id for lease in leases if lease.state != "ended"}
    strays = [one for one in machines if one.lease_id not in owned]
    if as_json:
        rows = [lease.model_dump(mode="json") for lease in leases]
        unowned = [{"machine": one.machine, "lease_id": one.lease_id} for one in strays]
        typer.echo(json.dumps({"leases": rows, "strays": unowned, "troubles": broken | away}, indent=1))
        return
    table = Table("lease", "run", "machine", "GPU", "kind", "state", "deadline (UTC)", "cost")
    for lease in leases:
        table.add_row(*map(escape, _lease_cells(lease, utc_now())))
    console.print(table if leases else "no machine is rented")
    for one in strays:
        told = f"no live lease owns {one.machine} ({one.lease_id}); the reaper ends it at its next round"
        console.print(told, highlight=False, markup=False)
    _tell(broken | away)


def cost(
    task: Annotated[str, typer.Argument(help="the task; all of them by default")] = "",
    folder: Folder = DEFAULT_FOLDER,
    as_json: AsJson = False,
) -> None:
    """Show what runs cost and what they brought, and how this month stands against its bound."""
    from fleet_contracts import utc_now
    from flows.gpus.leases import LeaseBook
    from flows.gpus.money import reserved
    from flows.gpus.purse import month_so_far
    from flows.tracking.bills import run_costs

    with installation(folder) as ctx:
        if task:
            ctx.settings.task(task)
        tasks = [task] if task else sorted(ctx.settings.tasks)
        found = [(one, row) for one in tasks for row in run_costs(ctx, one, utc_now())]
        book = LeaseBook(ctx.database)
        month, held = month_so_far(book), reserved(book.live(), utc_now())
        cap = ctx.settings.money.per_month
    if as_json:
        rows = [{"task": one, **row.to_json()} for one, row in found]
        told = {"spent": month.dollars, "unpriced": month.unpriced, "reserved": held, "cap": cap}
        typer.echo(json.dumps({"month": told, "runs": rows}, indent=1))
        return
    columns = ("run", "state", "cost", "saved by spot", "machines", "of the model", "mAP50", "of a point")
    table = Table("task", *columns)
    for one, row in found:
        table.add_row(one, *map(escape, _cost_cells(row)))
    console.print(table if found else "no run yet")
    bound = f" of ${cap:.2f}" if cap else ", without a bound (money.per_month)"
    sum_up = f"this month: ${month.dollars:.2f}{bound}; machines that run may cost ${held:.2f} more"
    console.print(f"{sum_up} until their deadlines", highlight=False)
    if month.unpriced:
        console.print(f"{month.unpriced} leases of unknown price are in no sum", highlight=False)


def check(folder: Folder = DEFAULT_FOLDER, as_json: AsJson = False) -> None:
    """Check every provider: its token, the balance, how its machines end without us, and who watches them."""
    from flows.gpus.checking import check_all

    with installation(folder) as ctx:
        found = check_all(ctx)
    if as_json:
        typer.echo(json.dumps([one.to_json() for one in found], indent=1))
    else:
        table = Table("provider", "token", "balance", "without us", "watched from", "a launch")
        for one in found:
            table.add_row(*map(escape, _check_cells(one)))
        console.print(table)
        for one in found:
            for line in one.lines:
                console.print(f"{one.provider}: {line}", highlight=False, markup=False)
    if any(one.is_bad for one in found):
        raise typer.Exit(1)


def end(
    lease: Annotated[str, typer.Argument(help="the lease, or how it begins")],
    reason: Annotated[str, typer.Option("--reason", help="why; kept in the record")] = "a person ended it",
    folder: Folder = DEFAULT_FOLDER,
) -> None:
    """End the machine of a lease now; its run looks for another one unless it is cancelled in Prefect."""
    from flows.gpus.checking import end_lease

    with installation(folder) as ctx:
        ended = end_lease(ctx, lease, reason)
    what = f"machine {ended.machine}" if ended.machine else "no machine"
    console.print(f"ended {ended.lease_id}: {what}", highlight=False)
    again = f"{ended.run_id} rents another one if it still goes on; cancel its flow run to end it as well"
    console.print(again, highlight=False)


def _lenders(ctx: Context, only: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the providers asked for, and why others of them could not be set up."""
    from flows.errors import SettingsError
    from flows.gpus.providers import each_apart

    known, broken = each_apart(ctx.folder, ctx.settings)
    if not only:
        return known, broken
    if only not in known and only not in broken:
        raise SettingsError(
            expected=f"one of the providers {sorted({*known, *broken})}", got=only, where="--provider",
            now="See [providers.<name>] in whetstone.toml.",
        )  # fmt: skip
    chosen = {only: known[only]} if only in known else {}
    return chosen, {only: broken[only]} if only in broken else {}


def _all_leases(ctx: Context, book: Any) -> tuple[Lease, ...]:
    return tuple(lease for task in sorted(ctx.settings.tasks) for lease in book.of_task(task))


def _offer_cells(offer: GpuOffer, age: float) -> tuple[str, ...]:
    from flows.tracking import words

    count = f"{offer.gpu_count} x " if offer.gpu_count > 1 else ""
    memory = f"{offer.gpu_memory_mib / 1024:.0f} GiB" if offer.gpu_memory_mib else _NONE
    return (
        offer.provider, count + offer.gpu, memory, _price(offer.on_demand_price), _price(offer.spot_price),
        offer.region or _NONE, offer.price_source or _NONE, words.seconds(max(age, 0.0)), offer.offer_id,
    )  # fmt: skip


def _lease_cells(lease: Lease, now: Any) -> tuple[str, ...]:
    from flows.gpus.money import cost_of
    from flows.tracking import words

    state = lease.state if lease.state != "ended" else f"ended: {lease.end_reason}"
    return (
        lease.lease_id, lease.run_id, f"{lease.provider}: {lease.machine or _NONE}", lease.offer.gpu,
        "spot" if lease.spot else "on demand", state, f"{lease.deadline:%m-%d %H:%M}",
        words.dollars(cost_of(lease, now)),
    )  # fmt: skip


def _cost_cells(row: RunCost) -> tuple[str, ...]:
    from flows.tracking import words

    return (
        row.run_id, row.state, words.dollars(row.cost), words.dollars(row.saved or None),
        f"{row.machines}, {row.lost} died" if row.lost else str(row.machines),
        words.dollars(row.cost_of_model),
        _NONE if row.gain_points is None else f"{row.gain_points:+.1f} points",
        words.dollars(row.cost_per_point),
    )  # fmt: skip


def _check_cells(one: Checked) -> tuple[str, ...]:
    from flows.tracking import words

    return (
        one.provider,
        one.token,
        words.dollars(one.balance),
        one.ending,
        ", ".join(one.hosts) or "nowhere",
        one.launch,
    )


def _price(value: float | None) -> str:
    return _NONE if value is None else f"${value:.3f}"


def _tell(troubles: dict[str, str]) -> None:
    for name, why in troubles.items():
        console.print(f"{name}: {why}", highlight=False, markup=False)
