"""List refused label files where people find them: `refused.csv` beside the files."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from sqlalchemy import select

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
