"""Name every object in the bucket. All but releases lie under `tasks/<task>/`.

Functions return keys without a leading slash. `parse_incoming` is the inverse that ingest's sweep needs.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from fleet_contracts.errors import BadAddress

RELEASES = "releases"
"""Prefix served read-only over HTTP: `metadata/` and `targets/` of one TUF repository."""

RUN_OUTPUTS = (
    "checkpoint-a.pt",
    "checkpoint-b.pt",
    "checkpoint.json",
    "run.json",
    "result.json",
    "model.onnx",
    "model-fp16.onnx",
    "model-int8.onnx",
    "weights.pt",
    "failure.json",
    "trainer.log",
)
"""The fixed set of objects a trainer may write, beside its numbered event segments."""
LOG_NAME = "trainer.log"
"""The end of what a rented machine wrote; sent when it ends."""
MAX_EVENT_SEGMENTS = 1000

_INCOMING = re.compile(r"^tasks/([a-z0-9-]+)/incoming/([0-9a-f]{32})/([0-9a-f]{64})(\.json)?$")


class Incoming(NamedTuple):
    """Hold the parts of an `incoming/` key."""

    task_id: str
    grant_id: str
    sample_id: str
    kind: Literal["image", "announcement"]


def task(task_id: str) -> str:
    """Return the folder of a task, without a slash at the end."""
    return f"tasks/{task_id}"


def sample_image(task_id: str, sample_id: str) -> str:
    """Return where a sample's image lies."""
    return f"tasks/{task_id}/samples/{sample_id}.jpg"


def sample_sidecar(task_id: str, sample_id: str) -> str:
    """Return where a sample's sidecar lies; written last, it is the commit."""
    return f"tasks/{task_id}/samples/{sample_id}.json"


def incoming(task_id: str, grant_id: str, sample_id: str, kind: Literal["image", "announcement"]) -> str:
    """Return where a box may put a granted upload."""
    suffix = ".json" if kind == "announcement" else ""
    return f"tasks/{task_id}/incoming/{grant_id}/{sample_id}{suffix}"


def parse_incoming(key: str) -> Incoming:
    """Read an `incoming/` key back.

    Raises:
        BadAddress: the key is not one that `incoming` makes.
    """
    found = _INCOMING.match(key)
    if found is None:
        raise BadAddress(expected="tasks/<task>/incoming/<grant>/<sha256>[.json]", got=key, where="bucket")
    kind: Literal["image", "announcement"] = "announcement" if found[4] else "image"
    return Incoming(found[1], found[2], found[3], kind)


def quarantine(task_id: str, name: str) -> str:
    """Return where something that cannot be used is kept."""
    return f"tasks/{task_id}/quarantine/{name}"


def tombstone(task_id: str, sample_id: str) -> str:
    """Return where the mark of a forgotten sample lies."""
    return f"tasks/{task_id}/tombstones/{sample_id}.json"


def label(task_id: str, sample_id: str, revision: int) -> str:
    """Return where one revision of a sample's labels lies."""
    return f"tasks/{task_id}/labels/{sample_id}/{revision:06d}.json"


def class_list(task_id: str, version: int) -> str:
    """Return where one version of the class list lies."""
    return f"tasks/{task_id}/classes/{version:06d}.json"


def snapshot_manifest(task_id: str, snapshot_id: str) -> str:
    """Return where a snapshot's manifest lies."""
    return f"tasks/{task_id}/snapshots/{snapshot_id}/manifest.jsonl"


def shard(task_id: str, sha256: str) -> str:
    """Return where a content-addressed tar of sample images lies; snapshots share shards."""
    return f"tasks/{task_id}/shards/{sha256}.tar"


def run(task_id: str, run_id: str, name: str) -> str:
    """Return where an object of a run lies: `plan.json`, `ticket.json` or one of `RUN_OUTPUTS`."""
    return f"tasks/{task_id}/runs/{run_id}/{name}"


def run_event(task_id: str, run_id: str, number: int) -> str:
    """Return where event segment `number` of a run lies."""
    return run(task_id, run_id, event_name(number))


def event_name(number: int) -> str:
    """Return the name of event segment `number` within its run."""
    return f"events/{number:06d}.json"


def candidate(task_id: str, candidate_id: str, name: str) -> str:
    """Return where an object of a candidate lies: `candidate.json`, model files, `gate.json`, pictures."""
    return f"tasks/{task_id}/candidates/{candidate_id}/{name}"


def origin(task_id: str, sha256: str, name: str) -> str:
    """Return where registered origin weights and their record lie."""
    return f"tasks/{task_id}/origins/{sha256}/{name}"


def journal(task_id: str, kind: str, name: str) -> str:
    """Return where a database record is exported for people to read later."""
    return f"tasks/{task_id}/journal/{kind}/{name}.json"


def release_target(task_id: str, channel: str, version: int, name: str) -> str:
    """Return the TUF target path of one file of a release (relative to `targets/`)."""
    return f"{task_id}/{channel}/{version:06d}/{name}"


def channel_target(task_id: str, channel: str) -> str:
    """Return the TUF target path of a channel's policy."""
    return f"{task_id}/{channel}/channel.json"
