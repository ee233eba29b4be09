"""Found a task whole: its record and class list, and a release channel the online keys may sign for.

The signing keys are made at the first task. Offline keys should leave the machine after that; a task
founded later asks for the folder they were brought back to.
"""

from __future__ import annotations

from pathlib import Path

import tomllib
from pydantic import ValidationError

from flows.context import Context
from flows.errors import SettingsError
from flows.releases.keys import create_keys
from flows.releases.repository import ReleaseRepository
from flows.settings import TaskSettings
from flows.tasks import create_task


def found_task(
    ctx: Context,
    task_id: str,
    class_names: tuple[str, ...],
    settings: TaskSettings,
    *,
    by: str = "operator",
    offline_keys: Path | None = None,
) -> Context:
    """Create a task and its channel, and return the context that knows it; doing it twice changes nothing.

    Args:
        ctx: the installation.
        task_id: the task.
        class_names: names in the order of their ids.
        settings: the task's settings.
        by: who does this.
        offline_keys: folder with `root.pem` and `targets.pem`; where they were made by default.

    Raises:
        ClassListConflict: the task exists with another class list.
        KeysMissing: the offline keys are not where they were made; say where they are.
    """
    # (1) keys and repository, once for the installation
    folder = ctx.path(ctx.settings.releases.keys_folder)
    create_keys(folder)
    offline = offline_keys or folder / "offline"
    repository = ReleaseRepository(ctx.store, folder)
    repository.initialise(offline)
    # (2) the channel before the task: a task without one could train what it cannot release
    repository.add_channel(task_id, settings.channel, offline)
    # (3) the task appears
    return create_task(ctx, task_id, class_names, settings, by=by)


def task_settings(path: Path | None, known: TaskSettings | None = None) -> TaskSettings:
    """Read a task's settings from a TOML file; defaults where it says nothing.

    Args:
        path: the file; without one the task keeps what it has.
        known: what the installation's settings say of the task, by an earlier call or by a person's hand.

    Raises:
        SettingsError: not TOML, or keys unknown or out of range; all are listed.
    """
    if path is None:
        return known or TaskSettings()
    try:
        return TaskSettings.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(expected="TOML of a task's settings", got=str(error), where=str(path)) from error
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(step) for step in item['loc'])}: {item['msg']}"
            for item in error.errors(include_url=False)
        )
        raise SettingsError(expected="a task's settings", got=problems, where=str(path)) from error
