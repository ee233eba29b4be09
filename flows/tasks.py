"""Create tasks: their settings in the installation's file, their class list in bucket and catalog."""

from __future__ import annotations

from flows.classes import start_class_list
from flows.context import Context
from flows.settings import Settings, TaskSettings, load_settings, write_settings


def create_task(
    ctx: Context, task_id: str, class_names: tuple[str, ...], settings: TaskSettings, *, by: str = "operator"
) -> Context:
    """Add a task and return the context that knows it; the same task again changes only its settings.

    Raises:
        ClassListConflict: the task exists with another class list.
        SettingsError: the installation's settings cannot be read.
    """
    # (1) the settings are checked before anything is written
    known: Settings = load_settings(ctx.folder).with_task(task_id, settings)
    # (2) the class list first: settings without one would let ingest accept what nobody can label
    start_class_list(ctx, task_id, class_names, by)
    # (3) the task appears to every process with the settings file
    write_settings(ctx.folder, known)
    return ctx.reread()
