"""Tell which version of the class list a label file speaks of (law 9).

`classes.txt` names the list. When it moves on to a longer one, files written before it still speak of the
shorter: their author cannot have looked for a class that did not exist. A file written again after it
counts as reviewed under the new list, also where its content is the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fleet_contracts import ClassListConflict, keys, utc_now
from fleet_contracts.releases import Quarantine
from fleet_contracts.samples import ClassList
from flows.classes import class_list_at, prefix_version
from flows.context import Context
from flows.database.schema import LabelFileRow
from flows.ingest.quarantine import record_quarantine

CLASSES_FILE = "classes.txt"


@dataclass(frozen=True, slots=True)
class FolderClasses:
    """Hold the class list a folder names now, and the one it named before."""

    current: ClassList
    previous: ClassList
    changed_ns: int
    """When `classes.txt` first named the current list, as its modification time."""

    def version_for(self, path: Path) -> ClassList:
        """Return the list a file was written under."""
        try:
            written_ns = path.stat().st_mtime_ns
        except FileNotFoundError:
            return self.current
        return self.previous if written_ns < self.changed_ns else self.current

    def remember(self, ctx: Context, task_id: str) -> None:
        """Record the list as read, together with the one before it."""
        with ctx.database.session() as session:
            session.merge(
                LabelFileRow(
                    task_id=task_id,
                    name=CLASSES_FILE,
                    content_sha256="",
                    state="accepted",
                    stamp=str(self.changed_ns),
                    class_list_version=self.current.version,
                    previous_version=self.previous.version,
                    seen_at=utc_now(),
                )
            )


def read_classes(ctx: Context, task_id: str, folder: Path, known: LabelFileRow | None) -> FolderClasses | str:
    """Read `classes.txt`; return what is wrong with it where it cannot be used, so that no file is read."""
    path = folder / CLASSES_FILE
    try:
        names, written = _names_in(path), path.stat()
    except FileNotFoundError:
        return f"{path}: expected the class names, one a line, got no such file; no label is read without it"
    except UnicodeDecodeError as error:
        return f"{path}: expected text, got {error}"
    try:
        version = prefix_version(ctx, task_id, names, where=str(path))
    except ClassListConflict as conflict:
        _record(ctx, task_id, str(conflict))
        return str(conflict)
    current = class_list_at(ctx, task_id, version)
    changed_ns = written.st_mtime_ns
    if known is not None and known.class_list_version == version:
        # Written again with the same names: the list changed when it first named them.
        changed_ns = int(known.stamp)
    return FolderClasses(current, _previous(ctx, current, known), changed_ns)


def _previous(ctx: Context, current: ClassList, known: LabelFileRow | None) -> ClassList:
    if known is None:
        return current
    before = (
        known.previous_version if known.class_list_version == current.version else known.class_list_version
    )
    return current if before in (0, current.version) else class_list_at(ctx, current.task_id, before)


def _names_in(path: Path) -> tuple[str, ...]:
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    return tuple(line.strip() for line in lines if line.strip())


def _record(ctx: Context, task_id: str, reason: str) -> None:
    record_quarantine(
        ctx,
        Quarantine(
            task_id=task_id,
            subject=CLASSES_FILE,
            key=keys.quarantine(task_id, CLASSES_FILE),
            reason=reason,
            quarantined_at=utc_now(),
        ),
    )
