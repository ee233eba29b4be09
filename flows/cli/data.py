"""Look after data: tasks, classes, old data, labels, forgetting, and the catalog."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from flows.cli.common import DEFAULT_FOLDER, By, Folder, Reason, Task, console, installation, names_in, user


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    groups: tuple[tuple[str, str, dict[str, Callable[..., None]]], ...] = (
        ("task", "Create tasks.", {"create": create_task}),
        ("classes", "Keep class lists: ids are append-only.", {"add": add_class, "list": list_classes}),
        ("labels", "Bring labels in.", {"import": import_labels, "refused": list_refused}),
        ("catalog", "Look after the catalog.", {"rebuild": rebuild}),
    )
    for name, help_text, commands in groups:
        group = typer.Typer(help=help_text, no_args_is_help=True)
        for command, function in commands.items():
            group.command(command)(function)
        app.add_typer(group, name=name)
    app.command()(forget)


def create_task(
    task: Annotated[str, typer.Argument(help="the task's id")],
    classes: Annotated[str, typer.Option(help="class names in the order of their ids, with commas")],
    settings: Annotated[
        Path | None, typer.Option(help="TOML with the task's settings; defaults where it says nothing")
    ] = None,
    offline_keys: Annotated[
        Path | None, typer.Option(help="folder of root.pem and targets.pem; where they were made by default")
    ] = None,
    folder: Folder = DEFAULT_FOLDER,
    by: By = "",
) -> None:
    """Create a task with its class list, settings and signed release channel."""
    from flows.founding import found_task, task_settings

    with installation(folder) as ctx:
        wanted = task_settings(settings, ctx.settings.tasks.get(task))
        found_task(ctx, task, names_in(classes), wanted, by=by or user(), offline_keys=offline_keys)
    console.print(f"task {task}: channel {wanted.channel}, classes {classes}", highlight=False)


def add_class(
    name: Annotated[str, typer.Argument(help="the new class")],
    task: Task,
    reason: Reason,
    folder: Folder = DEFAULT_FOLDER,
    by: By = "",
) -> None:
    """Append a class to a task's list; boxes take it with a release whose rules name it."""
    from flows.classes import add_class as add

    with installation(folder) as ctx:
        grown = add(ctx, task, name, by or user(), reason)
    console.print(f"class list {grown.version}: {', '.join(grown.names)}", highlight=False)


def list_classes(task: Task, folder: Folder = DEFAULT_FOLDER) -> None:
    """Show a task's class list."""
    from flows.classes import current_class_list

    with installation(folder) as ctx:
        current = current_class_list(ctx, task)
    for number, name in enumerate(current.names):
        console.print(f"{number:3} {name}", highlight=False)


def import_labels(
    dataset: Annotated[Path, typer.Argument(help="folder with images/, labels/, classes.txt, samples.csv")],
    task: Task,
    golden_share: Annotated[float, typer.Option(min=0.0, max=0.5, help="share kept as golden set")] = 0.15,
    split: Annotated[str, typer.Option(help="only rows of samples.csv with this split")] = "",
    folder: Folder = DEFAULT_FOLDER,
    by: By = "",
) -> None:
    """Import old data to be replayed; importing the same again changes nothing."""
    from flows.labels.dataset import read_dataset
    from flows.labels.importing import ImportPolicy, import_dataset

    found = read_dataset(dataset)
    items = [item for item in found.items if not split or item.split == split]
    with installation(folder) as ctx:
        policy = ImportPolicy(found.class_names, golden_share=golden_share, labelled_by=by or user())
        report = import_dataset(ctx, task, items, policy)
    console.print(
        f"{report.samples} new samples ({report.golden} golden), {report.known} known, "
        f"{report.labels} labels, {len(report.refused)} refused",
        highlight=False,
    )
    for line in report.refused:
        console.print(f"  refused {line}", highlight=False, markup=False)


def list_refused(task: Task, folder: Folder = DEFAULT_FOLDER) -> None:
    """Show label files that cannot be used, and why."""
    from flows.labels.refused import refused_files

    with installation(folder) as ctx:
        rows = refused_files(ctx, task)
    table = Table("file", "why")
    for name, why in rows:
        table.add_row(escape(name), escape(why))
    console.print(table if rows else "no label file is refused")


def forget(
    task: Task,
    reason: Reason,
    sample: Annotated[str | None, typer.Option(help="one sample's id")] = None,
    device: Annotated[str | None, typer.Option(help="everything a device saw")] = None,
    since: Annotated[datetime | None, typer.Option(help="from this moment on, UTC")] = None,
    until: Annotated[datetime | None, typer.Option(help="before this moment, UTC")] = None,
    folder: Folder = DEFAULT_FOLDER,
    by: By = "",
) -> None:  # fmt: skip
    """Forget samples for good: a sample, what a device saw, or a span of time."""
    from flows.catalog.forget import ForgetWhat
    from flows.catalog.forget import forget as forget_samples

    what = ForgetWhat(sample_id=sample, device_id=device, since=_utc(since), until=_utc(until))
    with installation(folder) as ctx:
        report = forget_samples(ctx, task, what, by=by or user(), reason=reason)
    console.print(f"{len(report.samples)} samples forgotten", highlight=False)
    if report.models:
        console.print("models trained on them:", ", ".join(report.models), highlight=False)
    if report.releases:
        versions = ", ".join(str(version) for version in report.releases)
        console.print(
            f"releases of these models: {versions}; a signed release is never changed, so its probe images"
            " remain, and the samples may be among them",
            highlight=False,
        )


def rebuild(task: Task, folder: Folder = DEFAULT_FOLDER) -> None:
    """Rebuild the catalog's view of a task from the bucket."""
    from flows.catalog.rebuild import rebuild_catalog

    with installation(folder) as ctx:
        report = rebuild_catalog(ctx, task)
    console.print(
        f"{report.samples} samples, {report.labels} labels, {report.snapshots} snapshots, "
        f"{report.class_lists} class lists, {report.removed} rows removed",
        highlight=False,
    )
    for problem in report.problems:
        console.print(f"  unusable: {problem}", highlight=False, markup=False)


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.replace(tzinfo=timezone.utc)
