"""Look after models: enter an origin, ask for a retraining."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.common import DEFAULT_FOLDER, By, Folder, Reason, Task, console, installation, user

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    origin = typer.Typer(help="Enter weights that runs may start from.", no_args_is_help=True)
    origin.command("register")(register_origin)
    app.add_typer(origin, name="origin")
    app.command()(retrain)


def register_origin(
    weights: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="a .pt of the task's classes")],
    task: Task,
    licence: Annotated[str, typer.Option(help="under which licence the weights are used")],
    reason: Reason,
    overrule: Annotated[str, typer.Option(help="why to release them though the gate refuses")] = "",
    folder: Folder = DEFAULT_FOLDER,
    by: By = "",
) -> None:
    """Enter weights with licence and reason, judge them, and make them the first release."""
    from flows.champion import Entry
    from flows.retrain.first import first_release

    with installation(folder) as ctx:
        made = first_release(ctx, task, weights, Entry(licence, reason, by or user()), overrule=overrule)
    console.print(f"release {made.release.version}: model {made.release.model_id[:12]}", highlight=False)


def retrain(
    task: Task,
    force: Annotated[bool, typer.Option(help="train though there are few new labels")] = True,
    inline: Annotated[bool, typer.Option(help="run here and now, without the worker")] = False,
    wait: Annotated[bool, typer.Option(help="wait for the run's end")] = False,
    folder: Folder = DEFAULT_FOLDER,
) -> None:
    """Ask for a retraining now: by the deployment, or in this process."""
    import os

    from flows.settings import load_settings

    settings = load_settings(folder)
    settings.task(task)
    # Prefect reads its settings when it is first imported.
    os.environ.setdefault("PREFECT_API_URL", settings.prefect.api_url)
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    if inline:
        from flows.retrain.flow import retrain as flow

        console.print(flow(task, str(folder.resolve()), force=force), highlight=False)
        return
    import httpx
    from prefect.deployments import run_deployment

    from flows.errors import CannotStart

    parameters = {"task": task, "folder": str(folder.resolve()), "force": force}
    try:
        started = run_deployment("retrain/retrain", parameters=parameters, timeout=None if wait else 0)
    except httpx.TransportError as error:
        raise CannotStart(
            expected="Prefect's server to answer", got=f"{type(error).__name__}: {error}",
            where=settings.prefect.api_url, now="Start 'whetstone up', or correct prefect.api_url.",
        ) from error  # fmt: skip
    console.print(f"flow run {started.name}: {started.state.name if started.state else 'asked for'}")
    if wait:
        _tell_end(task, started.state)


def _tell_end(task: str, state: State[Any] | None) -> None:
    """Say where the outcome stands, and fail where the flow did not get to its end."""
    from flows.errors import CannotStart

    if state is not None and state.is_completed():
        console.print(f"what came of it: whetstone runs --task {task}", highlight=False)
        return
    why = state.message if state is not None and state.message else "no reason was given"
    raise CannotStart(
        expected="a flow run that ends", got=why, where=f"retraining of {task}",
        now="One retraining runs at a time; see 'whetstone status' and logs/worker.log of the folder.",
    )  # fmt: skip
