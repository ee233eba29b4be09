"""Follow a run's start back to the weights a person entered: every run has that origin's architecture.

A rented machine wrote the champion's weights, so the cloud never unpickles them (section 4 of the design's
laws for training). The origin's file was vouched for by a person; what is true of its network is true of
all that descends from it, but where a run went down to a smaller network.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from fleet_contracts import decode, keys
from fleet_contracts.errors import ContractError
from fleet_contracts.training import RunRecord
from flows.context import Context
from flows.database.schema import ChampionRow, OriginRow, RunRow
from flows.errors import StoreMissing

_LONGEST = 1000
"""Generations followed; a longer line, or one that comes back to itself, counts as unknown."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """Say what a start descends from; `network` is the name of a smaller model that a run on the way took."""

    origin: OriginRow | None
    network: str = ""

    @property
    def key(self) -> str:
        """Return what all runs of this architecture share, "" when it is unknown."""
        return "" if self.origin is None else f"{self.origin.weights_sha256[:16]}{self.network}"


def lineage_of(ctx: Context, task_id: str, sha256: str) -> Lineage:
    """Return the origin that weights descend from."""
    network, current = "", sha256
    for _ in range(_LONGEST):
        with ctx.database.reader() as session:
            origin = session.get(OriginRow, (task_id, current))
            maker = None if origin is not None else _maker_of(session, task_id, current)
        if origin is not None:
            return Lineage(origin, network)
        if maker is None:
            break
        # The newest change counts: what came before it was left behind.
        network = network or smaller_network(record_of(ctx, task_id, maker.run_id))
        current = maker.start_sha256
    return Lineage(None)


def record_of(ctx: Context, task_id: str, run_id: str) -> RunRecord | None:
    """Return a run's record, None where there is none that can be read."""
    key = keys.run(task_id, run_id, "run.json")
    try:
        return decode(RunRecord, ctx.store.get(key), where=key)
    except (StoreMissing, ContractError):
        return None


def smaller_network(record: RunRecord | None) -> str:
    """Return the network that memory forced a run down to, "" if none."""
    for rung in reversed(record.rungs if record is not None else ()):
        changed = rung.data.get("changed")
        taken = changed.get("start") if isinstance(changed, dict) else None
        if isinstance(taken, list) and len(taken) == 2:
            return str(taken[1])
    return ""


def _maker_of(session: Session, task_id: str, sha256: str) -> RunRow | None:
    """Return the run that made a champion's weights."""
    champion = session.scalars(
        select(ChampionRow)
        .where(ChampionRow.task_id == task_id, ChampionRow.weights_sha256 == sha256)
        .limit(1)
    ).first()
    if champion is None or champion.run_id is None:
        return None
    return session.get(RunRow, champion.run_id)
