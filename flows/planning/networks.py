"""Learn what a network takes, by tracing the origin it descends from in a child process, once."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from fleet_contracts.samples import ClassList
from flows.context import Context
from flows.database.schema import OriginRow
from flows.errors import FlowsError, StoreMissing
from flows.planning.lineage import Lineage
from trainer.errors import TrainerError
from trainer.planning import Network
from trainer.vram import load_calibration, profile_of

log = logging.getLogger("whetstone.planning")


def untraced(lineage: Lineage, weights_bytes: int) -> Network:
    """Return what is known of a network without tracing it."""
    return Network(lineage.key, weights_bytes=weights_bytes, problem="no offer needed its memory")


def traced(
    ctx: Context, lineage: Lineage, class_list: ClassList, *, weights_bytes: int, freeze_layers: int
) -> Network:
    """Return what a trace says of a network; why there is none, where it fails, stands in `problem`."""
    if lineage.origin is None:
        return Network(weights_bytes=weights_bytes, problem="no registered origin is known for the start")
    try:
        start = lineage.network or _fetched(ctx, lineage.origin)
        profile = profile_of(
            start, class_list.names, cache=ctx.folder / "cache" / "profiles", freeze_layers=freeze_layers
        )
    except (TrainerError, StoreMissing, FlowsError) as error:
        log.warning("planning.not_traced origin=%s error=%s", lineage.origin.weights_sha256, error)
        return Network(lineage.key, weights_bytes=weights_bytes, problem=f"tracing failed: {error}")
    return Network(lineage.key, profile, weights_bytes, load_calibration())


def _fetched(ctx: Context, origin: OriginRow) -> Path:
    """Return the origin's weights on this disk, with the very hash that was registered."""
    path = ctx.folder / "cache" / "origins" / f"{origin.weights_sha256}.pt"
    if not path.is_file() or _sha256(path) != origin.weights_sha256:
        path.parent.mkdir(parents=True, exist_ok=True)
        ctx.store.get_file(origin.weights_key, path)
        found = _sha256(path)
        if found != origin.weights_sha256:
            path.unlink()
            # The child unpickles it: nothing but the bytes a person vouched for may come so far.
            raise StoreMissing(
                expected=f"weights with SHA-256 {origin.weights_sha256}", got=found, where=origin.weights_key
            )
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
