"""Show how everything stands: `whetstone status`, as tables for people or JSON for programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from flows.cli.common import DEFAULT_FOLDER, Folder, console, installation

if TYPE_CHECKING:
    from flows.overview import TaskView


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(status)


def status(
    folder: Folder = DEFAULT_FOLDER,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Show services, tasks, champions, runs, rollouts and devices."""
    from flows.overview import task_view
    from flows.up.state import is_held, read_state

    services = read_state(folder)
    lives = services is not None and is_held(folder)
    with installation(folder) as ctx:
        views = [task_view(ctx, task_id) for task_id in sorted(ctx.settings.tasks)]
    if as_json:
        running = services.model_dump() if services is not None and lives else None
        typer.echo(json.dumps({"services": running, "tasks": [view.to_json() for view in views]}, indent=1))
        return
    if services is not None and lives:
        table = Table("service", "state", "pid", "restarts", title="services")
        for name, one in services.services.items():
            table.add_row(name, one.state, str(one.pid or ""), str(one.restarts))
        console.print(table)
    else:
        console.print("no services run in this folder", highlight=False)
    for view in views:
        _show(view)


def _show(view: TaskView) -> None:
    table = Table(show_header=False, title=f"task {view.task_id}")
    for name, value in view.lines():
        table.add_row(name, escape(value))
    console.print(table)
    if view.devices:
        devices = Table("device", "state", "release", "inspected", "dropped", "outbox", "problem")
        for row in view.devices:
            devices.add_row(*(escape(str(cell)) for cell in row))
        console.print(devices)
