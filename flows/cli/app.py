"""Put the commands together, and turn errors into two lines: what is wrong and what to do now."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from flows.cli import capture, data, gpus, models, plan, runs, services, watch

GROUP = "whetstone.commands"


class JoinedGroup(TyperGroup):
    """Hold our commands and those other packages join with; theirs are loaded when they are asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Name every command."""
        return [*super().list_commands(ctx), *sorted(_joined())]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command, ours first."""
        own = super().get_command(ctx, cmd_name)
        found = _joined().get(cmd_name)
        if own is not None or found is None:
            return own
        single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        single.command(cmd_name)(found.load())
        return typer.main.get_command(single)


app = typer.Typer(
    name="whetstone",
    cls=JoinedGroup,
    help="Keep edge vision models sharp: mine, label, retrain, judge, sign, roll out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
services.add_to(app)
data.add_to(app)
capture.add_to(app)
models.add_to(app)
runs.add_to(app)
gpus.add_to(app)
plan.add_to(app)
watch.add_to(app)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit status."""
    from fleet_contracts.errors import ContractError
    from flows.errors import FlowsError, StoreAway
    from trainer.errors import TrainerError

    try:
        app(args=list(arguments) if arguments is not None else None, prog_name="whetstone")
    except (FlowsError, ContractError, TrainerError) as error:
        console = Console(stderr=True)
        console.print(f"[bold red]{type(error).__name__}[/]", end=" ", highlight=False)
        console.print(str(error), highlight=False, markup=False, soft_wrap=True)
        if error.diagnostics() not in str(error):
            console.print(error.diagnostics(), highlight=False, markup=False, soft_wrap=True)
        if isinstance(error, StoreAway):
            console.print("The command has ended. Is 'whetstone up' running?", highlight=False)
        return 2
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    return 0


def _joined() -> dict[str, EntryPoint]:
    return {found.name: found for found in entry_points(group=GROUP)}
