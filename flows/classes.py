"""Keep the class list of a task: append-only and versioned, in bucket and catalog (law 9)."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from fleet_contracts import ClassListConflict, encode, keys, utc_now
from fleet_contracts.samples import ClassList
from flows.context import Context
from flows.database.schema import ClassListRow
from flows.errors import CannotStart


def current_class_list(ctx: Context, task_id: str) -> ClassList:
    """Return the newest class list of a task.

    Raises:
        CannotStart: the task has none yet.
    """
    with ctx.database.reader() as session:
        found = newest(session, task_id)
    if found is None:
        raise CannotStart(
            expected="a class list",
            got="none",
            where=f"task {task_id}",
            now="Create the task with 'whetstone task create'.",
        )
    return found


def class_list_at(ctx: Context, task_id: str, version: int) -> ClassList:
    """Return one version of a task's class list.

    Raises:
        CannotStart: there is no such version.
    """
    with ctx.database.reader() as session:
        row = session.get(ClassListRow, (task_id, version))
    if row is None:
        raise CannotStart(expected=f"class list {version}", got="none", where=f"task {task_id}")
    return _list_of(row)


def newest(session: Session, task_id: str) -> ClassList | None:
    """Return the newest class list within a transaction, None when there is none."""
    row = session.scalars(
        select(ClassListRow)
        .where(ClassListRow.task_id == task_id)
        .order_by(ClassListRow.version.desc())
        .limit(1)
    ).first()
    return None if row is None else _list_of(row)


def start_class_list(ctx: Context, task_id: str, names: tuple[str, ...], by: str) -> ClassList:
    """Give a task its first class list; the same names again change nothing.

    Raises:
        ClassListConflict: the task already has a list that begins otherwise.
    """
    first = ClassList(task_id=task_id, version=1, names=names)
    with ctx.database.reader() as session:
        current = newest(session, task_id)
    if current is None:
        _store(ctx, first, by=by, reason="the task was created")
        return first
    if current.names[: len(names)] != names:
        current.require_continues(first, where=f"task {task_id}")
    return current


def add_class(ctx: Context, task_id: str, name: str, by: str, reason: str) -> ClassList:
    """Append a class and return the new list; a name that is there already changes nothing.

    Boxes take the new list only with a release whose decision rules name the class.
    """
    current = current_class_list(ctx, task_id)
    if name in current.names:
        return current
    grown = ClassList.model_validate(current.with_class(name).model_dump())
    grown.require_continues(current, where=f"task {task_id}")
    _store(ctx, grown, by=by, reason=reason)
    return grown


def prefix_version(ctx: Context, task_id: str, names: tuple[str, ...], *, where: str) -> int:
    """Return the version of the task's list that has exactly these names.

    Raises:
        ClassListConflict: the names are neither the current list nor an older version of it.
    """
    with ctx.database.reader() as session:
        rows = session.scalars(select(ClassListRow).where(ClassListRow.task_id == task_id)).all()
    for row in rows:
        if tuple(row.names) == names:
            return row.version
    known = max(rows, key=lambda row: row.version).names if rows else []
    raise ClassListConflict(
        expected=f"{known} or an earlier version of it",
        got=str(list(names)),
        where=where,
        now="Bring the names into the task's order, or add the class with 'whetstone classes add'.",
    )


def _store(ctx: Context, class_list: ClassList, *, by: str, reason: str) -> None:
    # (1) the catalog row is taken in one transaction: of two writers one sees the other's version
    with ctx.database.session() as session:
        current = newest(session, class_list.task_id)
        if current is not None and current.version >= class_list.version:
            class_list.require_continues(current, where=f"task {class_list.task_id}")
            return
        session.add(
            ClassListRow(
                task_id=class_list.task_id,
                version=class_list.version,
                names=list(class_list.names),
                added_by=by,
                reason=reason,
                added_at=utc_now(),
            )
        )
        # (2) the bucket is written before the commit: a crash in between leaves an object that the same
        #     command writes again, never a catalog row the bucket does not know
        ctx.store.put(keys.class_list(class_list.task_id, class_list.version), encode(class_list))


def _list_of(row: ClassListRow) -> ClassList:
    return ClassList(task_id=row.task_id, version=row.version, names=tuple(row.names))
