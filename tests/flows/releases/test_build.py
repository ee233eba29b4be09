"""Test that a release is built from the very file that ships, and shows how it should behave."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_agent.ota.self_test import InProcessSelfTest
from fleet_contracts.base import encode
from fleet_contracts.ids import sha256_of
from fleet_contracts.releases import Lineage
from fleet_contracts.samples import BoxLabel, ClassList
from fleet_contracts.training import SnapshotMember
from flows.releases.build import ReleasePlan, build_release, choose_probes, drawn_pattern
from flows.releases.errors import ReleaseConflict
from tests.detection.onnx_models import TinyModel, save
from tests.flows.releases.release_kit import CHANNEL, MADE, NAMES, TASK, make_fleet, rules_for


def picture(grey: int) -> bytes:
    encoded, content = cv2.imencode(".jpg", np.full((80, 120, 3), grey, np.uint8))
    assert encoded
    return content.tobytes()


def member(name: str, *class_ids: int, split: str = "val") -> SnapshotMember:
    boxes = tuple(BoxLabel(class_id=each, cx=0.5, cy=0.5, width=0.2, height=0.2) for each in class_ids)
    return SnapshotMember(sample_id=sha256_of(name.encode()), split=split, group_id=name, label_revision=1,
                          class_list_version=1, class_count=2, verified=True, source="human", boxes=boxes,
                          width=120, height=80, size_bytes=100)


def plan(*names: str) -> ReleasePlan:
    return ReleasePlan(3, CHANNEL, ClassList(task_id=TASK, version=1, names=names or NAMES),
                       rules_for(names or NAMES), Lineage(kind="run", run_id="run-0123456789abcdef"), MADE)


def test_probes_show_every_class_as_early_as_possible() -> None:
    """Few images cover the classes; training and golden images are not used, and the choice is stable."""
    members = [*(member(f"s{index}", 0) for index in range(20)), member("rare", 1), member("empty"),
               member("trained", 0, 1, split="train")]
    chosen = choose_probes(members, 2)
    assert {box.class_id for each in chosen for box in each.boxes} == {0, 1}
    assert chosen == choose_probes(list(reversed(members)), 2)
    assert all(each.split == "val" for each in choose_probes(members, 100))


def test_a_built_release_passes_its_own_self_test(tmp_path: Path) -> None:
    """What the cloud saw on the probes is what a box sees, through the same code; building again is the same."""
    onnx = save(TinyModel(slope=1.0, offset=0.2), tmp_path / "m.onnx")
    members = [member("a", 0), member("b", 1)]
    images = {each.sample_id: picture(100 + 50 * index) for index, each in enumerate(members)}
    release, files = build_release(plan(), onnx, members, images.__getitem__)
    assert release.model_id == sha256_of(onnx.read_bytes())
    assert len(release.probes) == 2
    assert all(probe.expected for probe in release.probes)
    assert {probe.sample_id for probe in release.probes} == {sha256_of(image) for image in images.values()}
    assert build_release(plan(), onnx, members, images.__getitem__)[0] == release
    for name, content in files.items():
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.read_bytes())
    (tmp_path / "release.json").write_bytes(encode(release))
    assert InProcessSelfTest().run(tmp_path).probes == 2


def test_without_images_a_pattern_is_the_probe(tmp_path: Path) -> None:
    """A first release before any image still has something to test itself with, and can be published."""
    onnx = save(TinyModel(), tmp_path / "m.onnx")
    release, files = build_release(plan(), onnx, (), lambda _: b"")
    assert files["probe-0.jpg"] == drawn_pattern()
    assert make_fleet(tmp_path).repository.publish(release, files).latest == 3


def test_a_model_of_other_classes_is_refused(tmp_path: Path) -> None:
    """The names inside the file must be the fleet's, in order."""
    onnx = save(TinyModel(class_names=("missing", "scratch")), tmp_path / "m.onnx")
    with pytest.raises(ReleaseConflict, match=r"m\.onnx.*scratch.*missing"):
        build_release(plan(), onnx, (), lambda _: b"")


def test_an_image_that_does_not_decode_is_refused(tmp_path: Path) -> None:
    """A probe nobody can look at proves nothing."""
    onnx = save(TinyModel(), tmp_path / "m.onnx")
    with pytest.raises(ReleaseConflict, match="decodes"):
        build_release(plan(), onnx, [member("a", 0)], lambda _: b"no image")
