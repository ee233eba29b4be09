"""Run services: `up` for all of them on this machine, `ingest` alone, and `device add`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.common import DEFAULT_FOLDER, Folder, console

if TYPE_CHECKING:
    from flows.up.state import UpState


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(up)
    app.command()(ingest)
    device = typer.Typer(help="Let boxes in.", no_args_is_help=True)
    device.command("add")(add_device)
    app.add_typer(device, name="device")


def up(folder: Folder = DEFAULT_FOLDER) -> None:
    """Run every service on this machine until interrupted; data are kept in the folder."""
    from flows.up.embedded import run_up

    console.print(f"services of {folder.resolve()}; logs in {folder / 'logs'}", highlight=False)
    run_up(folder, changed=_Teller())
    console.print("all services ended")


def ingest(folder: Folder = DEFAULT_FOLDER) -> None:
    """Run ingest alone, where the other services run elsewhere."""
    from flows.ingest.__main__ import main

    raise typer.Exit(main(["--folder", str(folder)]))


def add_device(
    device: Annotated[str, typer.Argument(help="the device's id")], folder: Folder = DEFAULT_FOLDER
) -> None:
    """Give a device a password at the embedded broker."""
    from flows.up.embedded import add_device as add
    from flows.up.errors import NotRunning

    try:
        path = add(folder.resolve(), device)
    except NotRunning as error:
        console.print(str(error), markup=False, highlight=False)
        return
    console.print(f"password of {device}: {path}", highlight=False)


class _Teller:
    """Tell of every change of a service's state, once."""

    def __init__(self) -> None:
        self._before: dict[str, str] = {}
        self._ready = False
        self._since = time.monotonic()

    def __call__(self, state: UpState) -> None:
        for name, service in state.services.items():
            if service.state != self._before.get(name):
                self._before[name] = service.state
                again = f" (start {service.restarts + 1})" if service.restarts else ""
                console.print(f"  {name:14} {service.state}{again}", highlight=False)
        if state.ready and not self._ready:
            seconds = time.monotonic() - self._since
            console.print(f"[green]ready[/] after {seconds:.0f} s", highlight=False)
            for name, url in state.urls.items():
                console.print(f"  {name:14} {url}", highlight=False)
        self._ready = state.ready
