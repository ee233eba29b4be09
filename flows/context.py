"""Open an installation: its folder, settings, object store and database, as one value."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from flows.database import Database
from flows.settings import Settings, load_settings
from flows.store.base import ObjectStore

DATABASE_FILE = "whetstone.db"


@dataclass(frozen=True, slots=True)
class Context:
    """Hold what every step on the cloud side works with."""

    folder: Path
    settings: Settings
    store: ObjectStore
    database: Database

    def path(self, path: Path) -> Path:
        """Return a path of the settings; relative ones are relative to the installation's folder."""
        return path if path.is_absolute() else self.folder / path

    def reread(self) -> Context:
        """Return this context with the settings as they are on disk now (a task may have been added)."""
        return replace(self, settings=load_settings(self.folder))


@contextmanager
def open_context(folder: Path) -> Iterator[Context]:
    """Open the installation in `folder` and close it at the end of the block.

    Raises:
        SettingsError: its settings or credentials are missing or wrong.
        DatabaseAway: the database does not answer. The store is only asked when it is used.
    """
    from flows.store.minio_store import open_store

    folder = folder.resolve()
    settings = load_settings(folder)
    database = Database.open(database_url(folder, settings))
    try:
        yield Context(folder, settings, open_store(folder, settings.store), database)
    finally:
        database.close()


def database_url(folder: Path, settings: Settings) -> str:
    """Return where an installation's database is: SQLite in its folder unless the settings say otherwise."""
    return settings.database.url or f"sqlite:///{folder / DATABASE_FILE}"
