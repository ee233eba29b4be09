"""Build a release from the file that passed the gate: the same ONNX file, and images to test it with.

Probe images come from validation data. What the cloud's run of this very file detects on them ships with
the release, so that a box can tell whether its own engine computes the same before it lets the model serve.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import cv2
import numpy as np

from detection.model_file import read_model
from detection.session import Detector
from fleet_contracts.ids import sample_id_of, sha256_of
from fleet_contracts.releases import Artifact, Lineage, Probe, Release
from fleet_contracts.samples import ClassList, DecisionRules
from fleet_contracts.training import Precision, SnapshotMember
from flows.releases.errors import ReleaseConflict

MODEL_FILE = "model.onnx"
PROBES = 4
PATTERN_SIZE = 320


@dataclass(frozen=True, slots=True)
class ReleasePlan:
    """Hold what a release says beside its files.

    `created_at` belongs to the plan and not to the moment of building, so that a second attempt builds the
    same document and publishing it twice is publishing it once.
    """

    version: int
    channel: str
    class_list: ClassList
    decision_rules: DecisionRules
    lineage: Lineage
    created_at: datetime
    precision: Precision = "fp32"


def build_release(plan: ReleasePlan, onnx: Path, members: Iterable[SnapshotMember],
                  image_of: Callable[[str], bytes],
                  probes: int = PROBES) -> tuple[Release, dict[str, Path | bytes]]:
    """Describe a model as a release and return it with its files by artifact path.

    Args:
        plan: what the release says.
        onnx: the very file the gate judged.
        members: where probe images are chosen from; without validation members a drawn pattern is used.
        image_of: returns a sample's encoded image.
        probes: how many images, at least one.

    Raises:
        ReleaseConflict: the model's class names are not the class list's, or an image does not decode.
        ModelFileError: the file is not a model of ours.
    """
    model = read_model(onnx)
    if tuple(model.class_names) != plan.class_list.names:
        raise ReleaseConflict(expected=f"a model of the classes {list(plan.class_list.names)}",
                              got=str(list(model.class_names)), where=str(onnx),
                              now="Export the model under the fleet's class list.")
    images = [image_of(member.sample_id) for member in choose_probes(members, probes)] or [drawn_pattern()]
    content = onnx.read_bytes()
    files: dict[str, Path | bytes] = {MODEL_FILE: onnx}
    files.update({_probe_name(index): image for index, image in enumerate(images)})
    sha256 = sha256_of(content)
    release = Release(
        task_id=plan.class_list.task_id, version=plan.version, channel=plan.channel, model_id=sha256,
        model=Artifact(path=MODEL_FILE, sha256=sha256, size_bytes=len(content)), input_spec=model.spec,
        class_list=plan.class_list, decision_rules=plan.decision_rules,
        probes=_expectations(onnx, images), lineage=plan.lineage, precision=plan.precision,
        created_at=plan.created_at)
    return release, files


def choose_probes(members: Iterable[SnapshotMember], count: int) -> tuple[SnapshotMember, ...]:
    """Choose validation members so that every class is shown early; the same input gives the same choice."""
    pool = sorted((member for member in members if member.split == "val"),
                  key=lambda member: hashlib.sha256(member.sample_id.encode()).hexdigest())
    chosen: list[SnapshotMember] = []
    seen: set[int] = set()
    while pool and len(chosen) < count:
        best = max(pool, key=lambda member: (len(_classes(member) - seen), -pool.index(member)))
        pool.remove(best)
        chosen.append(best)
        seen |= _classes(best)
    return tuple(chosen)


def drawn_pattern() -> bytes:
    """Draw a fixed picture, encoded losslessly, for a first release that has no images yet."""
    row = np.arange(PATTERN_SIZE, dtype=np.uint16)
    across, down = row[None, :], row[:, None]
    canvas = np.stack([across + down, across * 3 ^ down, down * 2 + across], axis=2)
    encoded, content = cv2.imencode(".png", (canvas % 256).astype(np.uint8))
    assert encoded, "a picture of our own always encodes"
    return bytes(content.tobytes())


def _expectations(onnx: Path, images: Sequence[bytes]) -> tuple[Probe, ...]:
    detector = Detector.load(onnx)
    try:
        return tuple(_expectation(detector, index, image) for index, image in enumerate(images))
    finally:
        detector.close()


def _expectation(detector: Detector, index: int, image: bytes) -> Probe:
    name = _probe_name(index)
    frame = cv2.imdecode(np.frombuffer(image, dtype=np.uint8), cv2.IMREAD_COLOR)
    if frame is None:
        raise ReleaseConflict(expected="an image that decodes", got=f"{len(image)} bytes", where=name)
    artifact = Artifact(path=name, sha256=sha256_of(image), size_bytes=len(image))
    found = detector.infer(frame.astype(np.uint8, copy=False)).detections
    return Probe(artifact=artifact, sample_id=sample_id_of(image), expected=found.to_boxes())


def _classes(member: SnapshotMember) -> set[int]:
    return {box.class_id for box in member.boxes}


def _probe_name(index: int) -> str:
    # The name says nothing of the encoding; readers look at the bytes.
    return f"probe-{index}.jpg"
