"""List refused label files where people find them: `refused.csv` beside the files.

A refusal lasts as long as its file: one that was corrected, renamed or deleted no longer counts.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

from sqlalchemy import delete, select

from flows.context import Context
from flows.database.schema import LabelFileRow
from flows.files import write_file

FILE_NAME = "refused.csv"


def refused_files(ctx: Context, task_id: str) -> list[tuple[str, str]]:
    """Return name and reason of every label file that is refused now."""
    with ctx.database.reader() as session:
        rows = session.scalars(
            select(LabelFileRow)
            .where(LabelFileRow.task_id == task_id, LabelFileRow.state == "refused")
            .order_by(LabelFileRow.name)
        )
        return [(row.name, row.reason) for row in rows]


def drop_gone(ctx: Context, task_id: str, folder: Path) -> None:
    """Stop remembering files that are refused or wait and are not in the folder any more."""
    query = select(LabelFileRow.name).where(LabelFileRow.task_id == task_id, LabelFileRow.state != "accepted")
    there = {path.name for path in folder.iterdir()}
    with ctx.database.reader() as session:
        gone = [name for name in session.scalars(query) if name not in there]
    if not gone:
        return
    with ctx.database.session() as session:
        for name in gone:
            session.execute(
                delete(LabelFileRow).where(LabelFileRow.task_id == task_id, LabelFileRow.name == name)
            )


def report_refused(ctx: Context, task_id: str, folder: Path) -> None:
    """Write `refused.csv` when its content changed; an empty list removes it."""
    found = refused_files(ctx, task_id)
    path = folder / FILE_NAME
    if not found:
        path.unlink(missing_ok=True)
        return
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("file", "reason"), *found])
    content = text.getvalue().encode()
    if not path.is_file() or path.read_bytes() != content:
        write_file(path, content)
