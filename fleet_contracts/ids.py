"""Give every thing in the loop a name that cannot be mistaken for another.

Names are plain strings on the wire; the aliases below carry the pattern that pydantic checks when a
document is built. A sample's or model's id is the SHA-256 of its bytes, so the same bytes always
carry the same name and a name cannot lie about its content.

    >>> sample_id_of(b"")[:8]
    'e3b0c442'
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated

from pydantic import StringConstraints

SLUG = r"^[a-z0-9][a-z0-9-]{0,62}$"
SHA256 = r"^[0-9a-f]{64}$"
PART = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"

TaskId = Annotated[str, StringConstraints(pattern=SLUG)]
DeviceId = Annotated[str, StringConstraints(pattern=SLUG)]
ChannelName = Annotated[str, StringConstraints(pattern=SLUG)]
Sha256 = Annotated[str, StringConstraints(pattern=SHA256)]
SampleId = Sha256
"""SHA-256 of the image file's bytes."""
ModelId = Sha256
"""SHA-256 of the ONNX file's bytes."""
SnapshotId = Sha256
"""SHA-256 of the manifest's bytes."""
RunId = Annotated[str, StringConstraints(pattern=r"^run-[0-9a-f]{16}$")]
GrantId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
PartId = Annotated[str, StringConstraints(pattern=PART)]


def sha256_of(content: bytes) -> str:
    """Return the lower-case hexadecimal SHA-256 of `content`."""
    return hashlib.sha256(content).hexdigest()


def sample_id_of(image: bytes) -> str:
    """Return the sample id of an encoded image: the SHA-256 of its bytes, not of its pixels."""
    return sha256_of(image)


def run_id_of(*, task_id: str, snapshot_id: str, start_sha256: str, recipe: dict[str, object]) -> str:
    """Name a training run by everything that decides its outcome.

    Two attempts with the same inputs get the same name, so the second resumes the first (law 2).

    Args:
        task_id: the task the run trains for.
        snapshot_id: the immutable training data.
        start_sha256: hash of the weights file the run starts from.
        recipe: JSON values only; key order does not matter.
    """
    text = json.dumps([task_id, snapshot_id, start_sha256, recipe], sort_keys=True, separators=(",", ":"))
    return "run-" + sha256_of(text.encode())[:16]
