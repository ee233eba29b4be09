"""Test that a model proves itself in a child process, and that every other end of the child is a failure."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.ota import self_test
from edge_agent.ota.errors import SelfTestBroken, SelfTestFailed
from edge_agent.ota.probes import differences
from edge_agent.ota.self_test import ChildSelfTest, InProcessSelfTest
from fleet_contracts.base import encode
from fleet_contracts.ids import sha256_of
from fleet_contracts.releases import Artifact, Probe, Release
from fleet_contracts.samples import DetectedBox
from tests.edge_agent.ota.ota_kit import build


def box(class_id: int = 0, confidence: float = 0.8, shift: float = 0.0) -> DetectedBox:
    return DetectedBox(class_id=class_id, confidence=confidence, x1=10 + shift, y1=10, x2=50 + shift, y2=50)


@pytest.mark.parametrize(("expected", "got", "count"), [
    ([], [], 0),
    ([box()], [box()], 0),
    ([box()], [box(confidence=0.72, shift=2)], 0),      # rounding of another engine
    ([box()], [], 1),
    ([], [box()], 1),
    ([box()], [box(class_id=1)], 2),                    # another class
    ([box()], [box(shift=30)], 2),                      # another place
    ([box()], [box(confidence=0.5)], 2),                # another score
    ([box(confidence=0.2)], [], 0),                     # noise
    ([box(confidence=0.31)], [box(confidence=0.29)], 0),  # on either side of the bound
    ([box(confidence=0.9)] * 2, [box(confidence=0.9)], 0),
])
def test_differences(expected: list[DetectedBox], got: list[DetectedBox], count: int) -> None:
    """Boxes well above the noise must be found on both sides."""
    assert len(differences(expected, got)) == count


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    release, files = build(tmp_path, 1)
    return installed(tmp_path / "release", release, files)


def installed(folder: Path, release: Release, files: dict[str, Path | bytes]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.read_bytes())
    (folder / "release.json").write_bytes(encode(release))
    return folder


def test_a_good_release_passes_in_a_child(folder: Path) -> None:
    """The child's verdict says how many probes were tested, and how fast."""
    verdict = ChildSelfTest(deadline_s=60).run(folder)
    assert verdict.passed
    assert verdict.probes == 1
    assert verdict.engine_ms > 0


def test_other_detections_fail(tmp_path: Path) -> None:
    """A model that computes something else than in the cloud does not serve; the words say what differs."""
    release, files = build(tmp_path, 1)
    wrong = tuple(probe.model_copy(update={"expected": (box(class_id=1),)}) for probe in release.probes)
    folder = installed(tmp_path / "r", release.model_copy(update={"probes": wrong}), files)
    with pytest.raises(SelfTestFailed, match="probe-0.jpg: expected class 1"):
        ChildSelfTest(deadline_s=60).run(folder)


def test_a_model_of_another_class_list_fails(tmp_path: Path) -> None:
    """The names inside the file are the ones the release says."""
    release, files = build(tmp_path, 1, model_names=("missing", "scratch"))
    folder = installed(tmp_path / "r", release, files)
    with pytest.raises(SelfTestFailed, match=r"'missing', 'scratch'"):
        InProcessSelfTest().run(folder)


def test_a_file_that_is_no_model_fails(folder: Path) -> None:
    """Garbage is a verdict, not a crash of the agent."""
    (folder / "model.onnx").write_bytes(b"no model")
    with pytest.raises(SelfTestFailed, match="does not load"):
        InProcessSelfTest().run(folder)


def test_a_probe_that_does_not_decode_fails(tmp_path: Path) -> None:
    """A picture that cannot be looked at proves nothing."""
    release, files = build(tmp_path, 1)
    bad = Probe(artifact=Artifact(path="probe-0.jpg", sha256=sha256_of(b"x"), size_bytes=1),
                sample_id=sha256_of(b"x"), expected=())
    folder = installed(tmp_path / "r", release.model_copy(update={"probes": (bad,)}), {**files, "probe-0.jpg": b"x"})
    with pytest.raises(SelfTestFailed, match="does not decode"):
        InProcessSelfTest().run(folder)


def test_no_probe_is_no_proof(tmp_path: Path) -> None:
    """An empty test never passes."""
    release, files = build(tmp_path, 1)
    folder = installed(tmp_path / "r", release.model_copy(update={"probes": ()}), files)
    with pytest.raises(SelfTestFailed, match="no probe"):
        InProcessSelfTest().run(folder)


def test_a_child_that_takes_too_long_is_ended(folder: Path) -> None:
    """The deadline holds, and it may work another time."""
    with pytest.raises(SelfTestBroken, match="within"):
        ChildSelfTest(deadline_s=0.05).run(folder)


def test_a_child_that_crashes_is_a_failure(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that takes the engine down takes the child down, not the agent; the exit is told."""
    script = folder / "crash"
    script.write_text("#!/bin/sh\necho dying >&2\nkill -SEGV $$\n")
    script.chmod(0o755)
    monkeypatch.setattr(self_test.sys, "executable", str(script))
    with pytest.raises(SelfTestBroken, match=r"exit -11, dying"):
        ChildSelfTest(deadline_s=20).run(folder)
