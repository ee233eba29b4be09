"""Keep the champion pointer of each task, and the origins people entered (law 5).

A champion is the model that serves and the weights the next run starts from. Promotions are only ever
added, so the history says who served when; the newest row is the champion.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from detection.model_file import read_model
from fleet_contracts import keys, sha256_of, utc_now
from flows.classes import prefix_version
from flows.context import Context
from flows.database.schema import ChampionRow, OriginRow


@dataclass(frozen=True, slots=True)
class OriginFiles:
    """Point at the files of an origin: the `.pt` to train from, and the ONNX that names the classes."""

    weights: Path
    onnx: Path


@dataclass(frozen=True, slots=True)
class Entry:
    """Say who entered weights, under which licence and why."""

    licence: str
    reason: str
    by: str


@dataclass(frozen=True, slots=True)
class Promotion:
    """Say which model becomes champion and where its files lie."""

    release_version: int
    model_id: str
    onnx_key: str
    weights_key: str
    weights_sha256: str
    weights_bytes: int
    class_list_version: int
    reason: str
    snapshot_id: str | None = None
    run_id: str | None = None


def register_origin(ctx: Context, task_id: str, files: OriginFiles, entry: Entry) -> OriginRow:
    """Enter weights that runs may start from; the same weights again return the first entry.

    Before the task's first release the same weights exported otherwise, say for another image size, replace
    the entry: what is judged and released is the file that was registered.

    Raises:
        ClassListConflict: the model's class list is not the task's or an earlier version of it.
        ModelFileError: the ONNX file does not say what it takes and gives.
    """
    # (1) nothing is stored for a model whose ids mean something else
    described = read_model(files.onnx)
    version = prefix_version(ctx, task_id, described.class_names, where=str(files.onnx))
    weights, onnx = files.weights.read_bytes(), files.onnx.read_bytes()
    sha256, model_id = sha256_of(weights), sha256_of(onnx)
    with ctx.database.reader() as session:
        known = session.get(OriginRow, (task_id, sha256))
    if known is not None and (known.model_id == model_id or champion(ctx, task_id) is not None):
        return known
    # (2) files before the row: a row always points at files that are there
    row = OriginRow(
        task_id=task_id,
        weights_sha256=sha256,
        weights_key=keys.origin(task_id, sha256, "weights.pt"),
        weights_bytes=len(weights),
        onnx_key=keys.origin(task_id, sha256, "model.onnx"),
        model_id=model_id,
        class_list_version=version,
        licence=entry.licence,
        reason=entry.reason,
        entered_by=entry.by,
        entered_at=utc_now(),
    )
    ctx.store.put(row.weights_key, weights)
    ctx.store.put(row.onnx_key, onnx)
    # (3) the record that makes it an origin
    with ctx.database.session() as session:
        return session.merge(row)


def origins(ctx: Context, task_id: str) -> list[OriginRow]:
    """Return a task's origins, newest first."""
    with ctx.database.reader() as session:
        return list(
            session.scalars(
                select(OriginRow).where(OriginRow.task_id == task_id).order_by(OriginRow.entered_at.desc())
            )
        )


def champion(ctx: Context, task_id: str) -> ChampionRow | None:
    """Return a task's champion, None before its first release."""
    with ctx.database.reader() as session:
        return champion_in(session, task_id)


def champion_in(session: Session, task_id: str) -> ChampionRow | None:
    """Return a task's champion within a transaction."""
    return session.scalars(
        select(ChampionRow).where(ChampionRow.task_id == task_id).order_by(ChampionRow.id.desc()).limit(1)
    ).first()


def set_champion(ctx: Context, task_id: str, promotion: Promotion) -> ChampionRow:
    """Make a model the champion; the same promotion again changes nothing."""
    with ctx.database.session() as session:
        current = champion_in(session, task_id)
        if (
            current is not None
            and current.model_id == promotion.model_id
            and current.release_version == promotion.release_version
        ):
            return current
        row = ChampionRow(
            task_id=task_id,
            kind="run" if promotion.run_id else "origin",
            release_version=promotion.release_version,
            model_id=promotion.model_id,
            onnx_key=promotion.onnx_key,
            weights_key=promotion.weights_key,
            weights_sha256=promotion.weights_sha256,
            weights_bytes=promotion.weights_bytes,
            class_list_version=promotion.class_list_version,
            snapshot_id=promotion.snapshot_id,
            run_id=promotion.run_id,
            promoted_at=utc_now(),
            reason=promotion.reason,
        )
        session.add(row)
        session.flush()
        return row
