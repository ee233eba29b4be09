"""Judge models of different heads against each other: champions of an earlier export are dense."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detection.session import Detector
from fleet_contracts.base import utc_now
from fleet_contracts.ids import sha256_of
from fleet_contracts.judging import Candidate, HeadKind, InputSpec, ParityReport
from fleet_contracts.samples import ClassRule, DecisionRules
from tests.detection.onnx_models import TinyModel, save
from tests.trainer.scenes import NAMES, SIZE, TASK, class_list, member
from trainer.gate.judge import Champion, JudgeInputs, explain, judge
from trainer.gate.settings import GateSettings
from trainer.latency import measure_latency

RULES = DecisionRules(classes=tuple(ClassRule(name=name, reject_at=0.5, unsure_at=0.2) for name in NAMES))
STRIDES = (8, 16, 32)


def _candidate(onnx: Path, head: HeadKind) -> Candidate:
    spec = InputSpec(width=SIZE, height=SIZE, head=head, strides=STRIDES if head == "dfl" else ())
    return Candidate(
        task_id=TASK, candidate_id="run-" + "1" * 16, run_id="run-" + "1" * 16, snapshot_id="2" * 64,
        model_id=sha256_of(onnx.read_bytes()), onnx_bytes=onnx.stat().st_size, weights_sha256="3" * 64,
        weights_bytes=10, input_spec=spec, class_list=class_list(), start_sha256="4" * 64, created_at=utc_now(),
        parity=ParityReport(images=4, compared=9, unmatched=0, max_box_error_px=0.01, max_score_error=0.0),
    )  # fmt: skip


@pytest.mark.parametrize(("champion", "candidate"), [("dense", "dfl"), ("dfl", "dense"), ("end2end", "dfl")])
def test_a_champion_of_another_head_is_measured_alike(
    champion: HeadKind, candidate: HeadKind, tmp_path: Path
) -> None:
    """Both find the same, so every measure but time is the same, and nothing counts as forgotten."""
    rows = [member(seed, split) for seed, split in enumerate(["val"] * 8 + ["golden"] * 4, start=100)]
    box = rows[0][0].boxes[0]
    x, y, wide, high = box.cx * SIZE, box.cy * SIZE, box.width * SIZE, box.height * SIZE
    found = (x - wide / 2, y - high / 2, x + wide / 2, y + high / 2, 0.9, 0)
    tiny = TinyModel(rows=(found,), class_names=NAMES, width=SIZE, height=SIZE, positions=32)
    old = save(replace(tiny, head=champion), tmp_path / "old.onnx")
    new = save(replace(tiny, head=candidate), tmp_path / "new.onnx")
    images = {one.sample_id: image for one, image in rows}
    report = judge(
        JudgeInputs(
            _candidate(new, candidate), new, tuple(one for one, _ in rows), images.__getitem__,
            champion=Champion(old, RULES), settings=GateSettings(bootstrap_rounds=100),
        )
    )  # fmt: skip
    for name, value in report.measures.items():
        side, measure = name.split(".", 1)
        if side == "candidate" and "map" in measure:
            assert value == pytest.approx(report.measures[f"champion.{measure}"], abs=1e-6), name
    assert report.measures["candidate.val_map50"] > 0
    assert "forgetting" not in {one.rule for one in report.findings if not one.passed}, explain(
        report.findings
    )


def test_decoding_counts_as_the_models_own_time(tmp_path: Path) -> None:
    """A head that leaves more to decoding must not look faster for it."""
    many = tuple(
        (float(at % 300), float(at // 300 * 9), at % 300 + 8.0, at // 300 * 9 + 8.0, 0.9, 0)
        for at in range(9000)
    )
    onnx = save(TinyModel(rows=many, width=320, height=320, positions=9000), tmp_path / "many.onnx")
    detector = Detector.load(onnx)
    frame = np.zeros((320, 320, 3), np.uint8)
    own = [detector.infer(frame) for _ in range(15)]
    detector.close()
    engine, decoding = (
        float(np.median([getattr(one, name) for one in own])) for name in ("engine_ms", "postprocess_ms")
    )
    assert decoding > 4 * engine
    assert measure_latency(onnx, frames=15).p50_ms > 2 * engine
