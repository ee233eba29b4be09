"""Look at runs: `whetstone runs list|show|compare|plot`, and `track` to write them into MLflow again.

`whetstone runs --task T` is short for `whetstone runs list T`.
"""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Column, Table

from flows.cli.common import DEFAULT_FOLDER, Folder, console, installation

if TYPE_CHECKING:
    from flows.context import Context
    from flows.tracking.story import Facts, Story

AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]
Runs = Annotated[list[str], typer.Argument(metavar="RUN...", help="names, or how they begin")]
_LIMIT = 20
_SHOWN_LOSSES = 4
_ALWAYS = ("run", "state", "why")
_ROOM_FOR_WHY = 24
"""Columns of the terminal kept for the reason, which is folded."""
_MOST_OF_WHY = 160
"""Characters of a reason in the list; `runs show` tells all of it."""
_GAP = 3


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    group = typer.Typer(help="See how trainings went, side by side.", invoke_without_command=True)
    group.callback()(runs)
    group.command("list")(list_runs)
    group.command("show")(show)
    group.command("compare")(compare_runs)
    group.command("plot")(plot)
    group.command("track")(track)
    app.add_typer(group, name="runs")


def runs(
    ctx: typer.Context,
    task: Annotated[str, typer.Option("--task", "-t", help="the task; all of them by default")] = "",
    folder: Folder = DEFAULT_FOLDER,
) -> None:
    """See how trainings went; without a command, list them."""
    if ctx.invoked_subcommand is None:
        list_runs(task, folder=folder)


def list_runs(
    task: Annotated[str, typer.Argument(help="the task; all of them by default")] = "",
    limit: Annotated[int, typer.Option(min=1, help="how many of each task")] = _LIMIT,
    folder: Folder = DEFAULT_FOLDER,
    as_json: AsJson = False,
) -> None:
    """List runs, newest first."""
    from fleet_contracts import utc_now
    from flows.tracking.gather import known_runs, story_of
    from flows.tracking.story import facts_of

    with installation(folder) as opened:
        tasks = [task] if task else sorted(opened.settings.tasks)
        named = [(one, run) for one in tasks for run in _known(opened, one, known_runs)[:limit]]
        found = [facts_of(story_of(opened, one, run), utc_now()) for one, run in named]
    if as_json:
        typer.echo(json.dumps([facts.to_json() for facts in found], indent=1))
        return
    console.print(_list_table(found) if found else "no run yet")


def show(
    run: Annotated[str, typer.Argument(help="its name, or how it begins")],
    folder: Folder = DEFAULT_FOLDER,
    as_json: AsJson = False,
) -> None:
    """Show one run: what was planned, what came of it, each epoch, and the gate's verdict."""
    from fleet_contracts import utc_now
    from flows.tracking.gather import find_run
    from flows.tracking.story import facts_of

    with installation(folder) as opened:
        story = find_run(opened, run)
    facts = facts_of(story, utc_now())
    if as_json:
        documents = {"plan": story.plan, "record": story.record, "gate": story.gate}
        kept = {name: one.model_dump(mode="json") for name, one in documents.items() if one is not None}
        typer.echo(json.dumps({**facts.to_json(), **kept}, indent=1))
        return
    _show(story, facts)


def compare_runs(
    names: Runs,
    everything: Annotated[bool, typer.Option("--all", help="also what is the same in all of them")] = False,
    folder: Folder = DEFAULT_FOLDER,
    as_json: AsJson = False,
) -> None:
    """Compare runs: what differs in plan, outcome and measures."""
    from fleet_contracts import utc_now
    from flows.tracking.comparing import compare

    stories = _stories(folder, names, least=2)
    lines = compare(stories, utc_now())
    shown = [line for line in lines if everything or line.differs]
    if as_json:
        rows = [{"part": one.part, "name": one.name, "differs": one.differs, "values": list(one.values)}
                for one in shown]  # fmt: skip
        typer.echo(json.dumps({"runs": [one.run_id for one in stories], "lines": rows}, indent=1))
        return
    # A name that is broken in two reads as two; the runs' columns fold instead.
    named = Column(no_wrap=True)
    table = Table("", named, *(story.run_id for story in stories), title="what differs")
    for number, line in enumerate(shown):
        part = line.part if number == 0 or shown[number - 1].part != line.part else ""
        told = escape(line.name)
        name = f"[bold]≠ {told}[/]" if line.differs else f"  {told}"
        last = number + 1 == len(shown) or shown[number + 1].part != line.part
        table.add_row(part, name, *map(escape, line.values), end_section=last)
    console.print(table if shown else "nothing differs")


def plot(
    names: Runs,
    out: Annotated[Path, typer.Option("--out", "-o", dir_okay=False, help="the PNG file")] = Path("runs.png"),
    folder: Folder = DEFAULT_FOLDER,
) -> None:
    """Draw runs into one picture."""
    from fleet_contracts import utc_now
    from flows.tracking.drawing import draw

    if out.suffix.lower() != ".png" or not out.absolute().parent.is_dir():
        raise typer.BadParameter(f"{out}: a file that ends with .png in a folder that exists is needed")
    written = draw(_stories(folder, names, least=1), out, utc_now())
    console.print(f"drew {written}", highlight=False)


def track(names: Runs, folder: Folder = DEFAULT_FOLDER) -> None:
    """Write runs into the tracking store again, after it was away; what is there already stays as it is."""
    from fleet_contracts import utc_now
    from flows.tracking.gather import find_run
    from flows.tracking.picturing import picture_of
    from flows.tracking.place import tracker_of

    with installation(folder) as opened:
        for story in [find_run(opened, name) for name in names]:
            tracker = tracker_of(opened, story.task_id)
            if tracker is None:
                console.print("no tracking: MLflow is switched off or not installed", highlight=False)
                return
            tracker.write(picture_of(story, utc_now()))
            console.print(f"tracked {story.run_id}", highlight=False)


def _known(opened: Context, task: str, known: Any) -> list[str]:
    opened.settings.task(task)
    return list(known(opened, task))


def _stories(folder: Path, names: list[str], *, least: int) -> list[Story]:
    from flows.tracking.gather import find_run

    if len(names) < least:
        raise typer.BadParameter(f"at least {least} runs are needed, got {len(names)}")
    with installation(folder) as opened:
        return [find_run(opened, name) for name in names]


def _list_table(found: list[Facts]) -> Table:
    """Return the list with as many columns as the terminal has room for, the first ones first."""
    from flows.tracking import words

    said = [words.summary(facts) for facts in found]
    columns = {
        "run": [facts.run_id for facts in found],
        "state": [facts.state for facts in found],
        "why": [_short_reason(facts) for facts in found],
        "epochs": [one["epochs"] for one in said],
        "time": [one["time of epochs"] for one in said],
        "gate": [one["gate"] for one in said],
        "cost": [one["cost"] for one in said],
        "cost of a point": [one["cost of a point"] for one in said],
        "images/s": [one["images/s"] for one in said],
        "VRAM predicted": [one["VRAM predicted"] for one in said],
        "VRAM seen": [one["VRAM seen"] for one in said],
        "rungs": [one["rungs"] for one in said],
        "task": [facts.task_id for facts in found],
        "started": [one["started"].removesuffix(" UTC") for one in said],
        "device": [one["device"] for one in said],
        "data wait": [one["data wait"] for one in said],
    }
    shown, left = [], console.width - _ROOM_FOR_WHY
    for name, cells in columns.items():
        left -= 0 if name == "why" else max(map(len, [name, *cells])) + _GAP
        if left >= 0 or name in _ALWAYS:
            shown.append(name)
    table = Table(*(name for name in columns if name in shown and name != "why"), "why")
    for row in range(len(found)):
        table.add_row(*(escape(columns[name][row]) for name in columns if name in shown and name != "why"),
                      escape(columns["why"][row]))  # fmt: skip
    if len(shown) < len(columns):
        table.caption = "a wider terminal shows more; so does --json"
    return table


def _short_reason(facts: Facts) -> str:
    """Return what a list has room for: the broken rules' names, or how the reason begins."""
    if facts.broken_rules:
        return ", ".join(rule.split(":")[0] for rule in facts.broken_rules)
    return shorten(facts.reason, _MOST_OF_WHY, placeholder=" ...")


def _show(story: Story, facts: Facts) -> None:
    from flows.tracking import words
    from flows.tracking.planned import plan_words

    planned = plan_words(story.plan) if story.plan else {}
    for title, rows in ((f"run {story.run_id}", words.summary(facts)), ("plan", planned)):
        if rows:
            console.print(_pairs(title, rows))
    if story.record is not None and story.record.epochs:
        console.print(_epochs(story))
    for title, said in (("rung", facts.rungs), ("watch", facts.watch), ("broken rule", facts.broken_rules)):
        for line in said:
            console.print(f"{title}: {line}", highlight=False, markup=False)
    if facts.measures:
        console.print(_pairs("gate", {name: words.number(value) for name, value in facts.measures.items()}))
    for problem in story.problems:
        console.print(f"unreadable: {problem}", highlight=False, markup=False)


def _pairs(title: str, rows: dict[str, str]) -> Table:
    table = Table(show_header=False, title=title)
    for name, value in rows.items():
        table.add_row(escape(name), escape(value or "-"))
    return table


def _epochs(story: Story) -> Table:
    from flows.tracking import words

    epochs = story.record.epochs if story.record else ()
    losses = list(dict.fromkeys(name for one in epochs for name in one.losses))[:_SHOWN_LOSSES]
    table = Table("epoch", "time", "images/s", "rate", *losses, "val loss", "VRAM", "busy", "wait",
                  title="epochs")  # fmt: skip
    for one in epochs:
        waits = one.data_wait_share if one.utilisation is not None or one.data_wait_share else None
        table.add_row(
            str(one.epoch), words.seconds(one.seconds), words.number(one.images_per_second),
            f"{one.learning_rate:.2e}", *(words.number(one.losses.get(name)) for name in losses),
            words.number(sum(one.val.values()) if one.val else None),
            words.gib(one.peak_memory_bytes or None), words.share(one.utilisation), words.share(waits),
        )  # fmt: skip
    return table
