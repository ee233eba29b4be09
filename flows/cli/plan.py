"""Look at plans before anything is rented: what a run would need, where it would train, and why."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from flows.cli.common import DEFAULT_FOLDER, Folder, console, installation

if TYPE_CHECKING:
    from fleet_contracts.training import TrainPlan
    from trainer.planning import PlanInputs


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    group = typer.Typer(
        help="See what a training would need before anything is rented.", no_args_is_help=True
    )
    group.command("show")(show)
    # The estimate's commands lie in a file of their own.
    if find_spec("flows.cli.plan_estimate") is not None:
        import_module("flows.cli.plan_estimate").add_to(group)
    app.add_typer(group, name="plan")


def show(
    task: Annotated[str, typer.Argument(help="the task")],
    offer: Annotated[
        list[str] | None,
        typer.Option(
            help="as if this were on offer, by the hour: T4=0.35, with a spot price T4=0.35/0.11, "
            "several 4xA100=7.20, of so many GiB Abacus:24=0.20; again for more"
        ),
    ] = None,
    markdown: Annotated[bool, typer.Option(help="print the page that a flow shows")] = False,
    folder: Folder = DEFAULT_FOLDER,
) -> None:
    """Show what would be planned for a task now; nothing is written and nothing is rented."""
    from fleet_contracts import utc_now
    from flows.planning.imagined import imagined_offers
    from flows.planning.pages import plan_page
    from flows.planning.preview import preview
    from flows.retrain.steps import lenders_of

    imagined = imagined_offers(offer or (), utc_now())
    with installation(folder) as ctx:
        ctx.settings.task(task)
        found = preview(ctx, task, lenders_of(ctx), imagined)
    if found.plan is None:
        assert found.refused is not None
        _show_needs(found.inputs)
        raise found.refused
    if markdown:
        typer.echo(plan_page(found.plan))
        return
    state = "the plan it was opened with" if found.written else "would be planned now"
    console.print(f"{found.plan.run_id}: {state}", highlight=False)
    _show_plan(found.plan)
    if found.plan.vram is None:
        _show_needs(found.inputs)


def _show_plan(plan: TrainPlan) -> None:
    from flows.planning.pages import considered_cells, stage_cells, summary_lines

    for line in summary_lines(plan):
        console.print(line.replace("**", ""), highlight=False, markup=False)
    stages = Table("image", "epochs", "batch", "accumulated", "effective", "augmentation", "memory")
    for stage in plan.stages:
        stages.add_row(*stage_cells(stage, plan))
    console.print(stages)
    rows = Table("machine", "format", "batch", "memory", "images/s", "time", "cost", "why")
    for row in plan.considered:
        rows.add_row(*considered_cells(row), style="bold" if row.chosen else None)
    console.print(rows)
    for reason in plan.reasons:
        console.print(f"* {reason}", highlight=False, markup=False)


def _show_needs(inputs: PlanInputs) -> None:
    """Show what the recipe would take of a card, though none is used."""
    from trainer.planning.needs import gpu_needs
    from trainer.planning.words import memory

    needs = gpu_needs(inputs)
    if not needs:
        console.print(f"memory on a GPU: unknown, {inputs.network.problem}", highlight=False, markup=False)
        return
    confirmed = all(one.estimate.confirmed for one in needs)
    table = Table("image", "batch", "format", "peak", "card needed", "such as",
                  title=f"what it would take of a GPU{'' if confirmed else ' (not confirmed)'}")  # fmt: skip
    for one in needs:
        table.add_row(f"{one.wish.image_size} px", f"{one.batch} x {one.accumulation}", one.precision,
                      memory(one.estimate.peak_bytes), memory(one.card_mib * 2**20),
                      ", ".join(one.cards) or "none known")  # fmt: skip
    console.print(table)
