"""Ask boxes for frames: `whetstone capture`, and `whetstone capture list` for what they answered."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from flows.cli.common import DEFAULT_FOLDER, By, Folder, Task, console, installation, user


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    group = typer.Typer(help="Ask boxes for frames.", invoke_without_command=True)
    group.callback()(capture)
    group.command("list")(list_captures)
    app.add_typer(group, name="capture")


def capture(
    ctx: typer.Context,
    task: Annotated[str, typer.Option("--task", "-t", help="the task")] = "",
    device: Annotated[list[str] | None, typer.Option(help="the box; again for several")] = None,
    frames: Annotated[int, typer.Option(min=1, help="how many frames of each box")] = 1,
    class_name: Annotated[str, typer.Option("--class", help="only frames that show this class")] = "",
    low: Annotated[float, typer.Option(min=0.0, max=1.0, help="lowest confidence that counts")] = 0.0,
    high: Annotated[float, typer.Option(min=0.0, max=1.0, help="highest confidence that counts")] = 1.0,
    before: Annotated[int, typer.Option(min=0, max=64, help="also frames from just before")] = 0,
    hours: Annotated[float, typer.Option(min=0.001, max=8760.0, help="until when")] = 8.0,
    campaign: Annotated[str, typer.Option(help="a name for what several boxes are asked for")] = "",
    folder: Folder = DEFAULT_FOLDER,
    by: By = "",
) -> None:
    """Ask boxes to keep their next frames, or the next that show a class within a band of confidence."""
    if ctx.invoked_subcommand is not None:
        return
    if not task or not device:
        raise typer.BadParameter("--task and --device are needed")
    from flows.captures import CaptureWish, ask_for_frames

    wish = CaptureWish(tuple(device), frames, class_name, low, high, before, hours, campaign)
    with installation(folder) as opened:
        commands = ask_for_frames(opened, task, wish, by=by or user())
    for command in commands:
        console.print(
            f"asked {command.device_id} for {command.frames} frames until "
            f"{command.expires_at:%Y-%m-%d %H:%M} UTC: command {command.command_id}",
            highlight=False,
        )


def list_captures(task: Task, folder: Folder = DEFAULT_FOLDER) -> None:
    """Show what boxes were asked for and what they answered, newest first."""
    from flows.captures import captures_of

    with installation(folder) as opened:
        opened.settings.task(task)
        views = captures_of(opened, task)
    table = Table("command", "device", "frames", "what", "state", "until", "detail")
    for view in views:
        command = view.command
        table.add_row(
            command.command_id[:12],
            command.device_id,
            f"{view.frames_kept}/{command.frames}",
            _what(command.class_name, command.low, command.high),
            view.words,
            f"{command.expires_at:%Y-%m-%d %H:%M}",
            escape(view.detail),
        )
    console.print(table if views else "no box was asked for frames")


def _what(class_name: str, low: float, high: float) -> str:
    if not class_name and (low, high) == (0.0, 1.0):
        return "any frame"
    return f"{class_name or 'anything'} {low:g} to {high:g}"
