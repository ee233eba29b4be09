"""Train, export and refuse in real children."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from detection.model_file import read_model
from detection.session import Detector
from tests.helpers import shared_data
from tests.trainer.conftest import job_for
from tests.trainer.scenes import NAMES, SIZE, scene
from trainer.backend import export_weights, run_child
from trainer.backend_job import BackendEvent, BackendResult
from trainer.dataset import DatasetOnDisk
from trainer.errors import BackendFailed, StartRefused

Trained = tuple[BackendResult, list[BackendEvent]]


def test_a_training_reports_every_epoch_once_and_ends_with_its_files(trained: Trained) -> None:
    """A child tells start, each epoch, export and end, and its result names files with the told hashes."""
    result, events = trained
    kinds = [event.kind for event in events]
    assert kinds == ["started", "epoch", "epoch", "epoch", "exported", "finished"]
    assert [event.epoch for event in events if event.kind == "epoch"] == [1, 2, 3]
    assert result.onnx is not None
    assert hashlib.sha256(result.weights.read_bytes()).hexdigest() == result.weights_sha256
    assert hashlib.sha256(result.onnx.read_bytes()).hexdigest() == result.onnx_sha256
    assert all(event.data["losses"]["cls_loss"] > 0 for event in events if event.kind == "epoch")


def test_the_exported_file_is_what_boxes_load(trained: Trained) -> None:
    """The ONNX file carries its contract, takes uint8 pixels, and is old enough for onnxruntime 1.23."""
    result, _ = trained
    assert result.onnx is not None
    model = read_model(result.onnx)
    assert model.class_names == NAMES
    assert model.spec == result.input_spec
    graph = onnx.load(str(result.onnx))
    assert graph.ir_version <= 10
    assert graph.opset_import[0].version == 17
    assert graph.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [output.name for output in graph.graph.output] == [*model.spec.detection_outputs, "features"]


def test_the_exported_graph_ends_before_the_boxes_are_decoded(trained: Trained) -> None:
    """A head with box distributions ships without its decoding, and every size in the file is fixed."""
    result, _ = trained
    assert result.onnx is not None
    model = read_model(result.onnx)
    assert (model.layout, model.spec.strides) == ("dfl", (8, 16, 32))
    assert all(shape is not None for shape in model.output_shapes.values())
    graph = onnx.load(str(result.onnx)).graph
    first = {name for node in graph.node[:2] for name in (node.op_type,)}
    assert first == {"Transpose", "Cast"}, "bytes are transposed, and nothing else is left of preprocessing"
    assert "Sigmoid" not in {node.op_type for node in graph.node[-3:]}


def test_detection_runs_the_exported_file(trained: Trained) -> None:
    """The file runs in the box's detector and gives a feature vector beside its detections."""
    result, _ = trained
    assert result.onnx is not None
    detector = Detector.load(result.onnx)
    frame = cv2.imdecode(np.frombuffer(scene(99)[0], np.uint8), cv2.IMREAD_COLOR)
    inference = detector.infer(np.asarray(frame, np.uint8))
    detector.close()
    assert inference.features is not None
    assert inference.features.shape == (32,)


def test_the_export_computes_what_was_trained(trained: Trained) -> None:
    """.pt and ONNX agree on every anchor of the validation images."""
    result, _ = trained
    assert result.parity is not None
    assert result.parity.images == 8
    assert result.parity.compared > 0
    assert result.parity.max_box_error_px < 0.01
    assert result.parity.max_score_error < 1e-4


def test_weights_for_another_class_list_are_refused(trained: Trained, tmp_path: Path) -> None:
    """Weights whose classes are no prefix of the list are refused with both lists in the message (law 9)."""
    with pytest.raises(StartRefused, match=r"(?s)bar.*square") as caught:
        export_weights(trained[0].weights, ("bar", "square"), SIZE, tmp_path)
    assert not caught.value.resumable


def test_a_file_that_is_no_checkpoint_is_refused_by_name(dataset: DatasetOnDisk, tmp_path: Path) -> None:
    """Bytes that are no model end the job with the file's name, and no restart is worth it."""
    broken = tmp_path / "broken.pt"
    broken.write_bytes(b"not a checkpoint")
    with pytest.raises(StartRefused, match=r"broken\.pt"):
        run_child(job_for(dataset, tmp_path / "out", start=str(broken)))


def test_a_child_that_dies_says_how_and_shows_its_log(dataset: DatasetOnDisk, tmp_path: Path) -> None:
    """An end without a result is told with the exit status; another start may help."""
    with pytest.raises(BackendFailed) as caught:
        run_child(job_for(dataset, tmp_path, start="no-such-model.yaml"))
    assert "no-such-model.yaml" in str(caught.value)
    assert caught.value.exit_code == 1


def test_labels_of_a_shorter_list_switch_mixing_off(dataset: DatasetOnDisk, tmp_path: Path) -> None:
    """With an image labelled under fewer classes no mosaic is made, whatever the job asks (law 9)."""
    from trainer.ultralytics_backend.settings import overrides_of

    job = job_for(dataset, tmp_path, augmentation="full")
    assert overrides_of(job, masked=False, device="cpu")["mosaic"] == 1.0
    assert overrides_of(job, masked=True, device="cpu")["mosaic"] == 0.0


def test_the_shared_base_model_exports_with_parity(tmp_path: Path) -> None:
    """A real yolo11n checkpoint becomes a file that computes the same within a hundredth of a pixel."""
    weights = shared_data("models/deeppcb-base.pt")
    folder = tmp_path / "images"
    folder.mkdir()
    for image in sorted((shared_data("data/deeppcb") / "images").glob("*.jpg"))[:3]:
        (folder / image.name).symlink_to(image)
    names = ("open", "short", "mousebite", "spur", "copper", "pinhole")
    result = export_weights(weights, names, 320, tmp_path / "out", parity_folder=folder)
    assert result.parity is not None
    assert result.parity.images == 3
    assert result.parity.compared > 50
    assert result.parity.max_box_error_px < 0.01
    assert (
        json.loads((tmp_path / "out" / "backend-result.json").read_text())["onnx_sha256"]
        == result.onnx_sha256
    )
