"""Give tests a detector that has really been trained, the demo's first champion, and parts of its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo.line.parts import FRAME
from demo.line.script import FIRST_CLASSES, MIXES, draw_part
from demo.line.writer import encode_jpeg
from fleet_contracts.base import utc_now
from fleet_contracts.ids import sha256_of
from fleet_contracts.judging import Candidate, ModelVariant
from fleet_contracts.samples import BoxLabel, ClassList
from fleet_contracts.training import SnapshotMember
from trainer.backend_job import BackendResult

BASE = Path(__file__).parents[3] / "demo" / "assets" / "demo-base.pt"
SIZE = 192
TASK = "plates"
CLASS_LIST = ClassList(task_id=TASK, version=1, names=FIRST_CLASSES)
_SEED = 8_000_000
"""No line, and no other measurement, draws parts from it."""


def train_images(folder: Path, count: int) -> tuple[Path, ...]:
    """Write pictures of parts to calibrate on."""
    files = []
    for number in range(count):
        file = folder / f"{number:04d}.jpg"
        file.write_bytes(encode_jpeg(draw_part(MIXES["known"], _SEED, number)))
        files.append(file)
    return tuple(files)


def val_members(count: int, *, split: str = "val") -> tuple[tuple[SnapshotMember, ...], dict[str, bytes]]:
    """Return verified members of other parts, and their pictures by sample id."""
    members, images = [], {}
    first = 10_000 if split == "val" else 20_000
    for number in range(count):
        picture = draw_part(MIXES["known"], _SEED, first + number)
        content = encode_jpeg(picture)
        boxes = tuple(
            BoxLabel(
                class_id=FIRST_CLASSES.index(one.kind), cx=(one.x1 + one.x2) / 2 / FRAME,
                cy=(one.y1 + one.y2) / 2 / FRAME, width=(one.x2 - one.x1) / FRAME, height=(one.y2 - one.y1) / FRAME,
            )
            for one in picture.truth
        )  # fmt: skip
        member = SnapshotMember(
            sample_id=sha256_of(content), split=split, group_id=f"{split}-{number}", label_revision=1,
            class_list_version=1, class_count=len(FIRST_CLASSES), verified=True, source="human", boxes=boxes,
            width=FRAME, height=FRAME, size_bytes=len(content), camera="left" if number % 2 else "right",
        )  # fmt: skip
        members.append(member)
        images[member.sample_id] = content
    return tuple(members), images


def candidate_of(result: BackendResult, variants: tuple[ModelVariant, ...] = ()) -> Candidate:
    """Describe an exported file as a run would."""
    assert result.onnx is not None
    run = "run-" + "1" * 16
    return Candidate(
        task_id=TASK, candidate_id=run, run_id=run, snapshot_id="2" * 64,
        model_id=sha256_of(result.onnx.read_bytes()), onnx_bytes=result.onnx.stat().st_size,
        weights_sha256=result.weights_sha256, weights_bytes=result.weights.stat().st_size,
        input_spec=result.input_spec, class_list=CLASS_LIST, parity=result.parity, variants=variants,
        start_sha256="4" * 64, created_at=utc_now(),
    )  # fmt: skip


def network_with_head(head: str, out: Path) -> Path:
    """Export an untrained network whose head decodes its boxes itself, and return the file."""
    import torch
    from ultralytics.nn.tasks import DetectionModel

    from trainer.ultralytics_backend import export

    torch.manual_seed(0)
    model = DetectionModel("yolo26n.yaml" if head == "end2end" else "yolo11n.yaml", nc=2, verbose=False).eval()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "head_kind", lambda _: head)
        export.export_onnx(model, ("a", "b"), 96, out, 17)
    return out
