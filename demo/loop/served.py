"""Fetch what a release serves, as the boxes got it: the model file and its decision rules."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from demo.errors import DemoError
from fleet_contracts import decode, keys
from fleet_contracts.releases import Release
from fleet_contracts.samples import DecisionRules
from flows.context import Context
from flows.files import write_file

_RELEASE_FILE = "release.json"


@dataclass(frozen=True, slots=True)
class ServedModel:
    """Hold a release's model on disk, its decision rules and its class names."""

    version: int
    onnx: Path
    rules: DecisionRules
    class_names: tuple[str, ...]


def fetch_served(ctx: Context, task_id: str, channel: str, version: int, work: Path) -> ServedModel:
    """Fetch one release from the bucket's signed targets into `work`.

    Raises:
        DemoError: the bucket holds no such release.
    """
    release = _release(ctx, keys.release_target(task_id, channel, version, _RELEASE_FILE))
    model = keys.release_target(task_id, channel, version, release.model.path)
    onnx = work / f"release-{version:06d}.onnx"
    write_file(onnx, ctx.store.get(_stored_target(ctx, model)))
    return ServedModel(version, onnx, release.decision_rules, release.class_list.names)


def _release(ctx: Context, target: str) -> Release:
    key = _stored_target(ctx, target)
    return decode(Release, ctx.store.get(key), where=key)


def _stored_target(ctx: Context, target: str) -> str:
    """Return the key of a target: TUF's consistent snapshots put its hash before its name."""
    folder, _, name = target.rpartition("/")
    prefix = f"{keys.RELEASES}/targets/{folder}/"
    for found in ctx.store.list(prefix):
        if found.key.rpartition("/")[2].partition(".")[2] == name:
            return found.key
    raise DemoError(expected=f"a target {target}", got="none", where=prefix, now="See the gate's report.")
