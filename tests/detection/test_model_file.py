"""A model file that is not ours, or contradicts itself, is refused by name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from detection.errors import ModelFileError
from detection.model_file import read_model
from fleet_contracts.base import encode
from fleet_contracts.ids import sha256_of
from fleet_contracts.judging import InputSpec
from tests.detection.onnx_models import TinyModel, save

SPEC = InputSpec(width=64, height=64, head="dense")
SPEC_JSON = encode(SPEC).decode()
CLASSES_JSON = '["scratch", "missing"]'


def test_a_good_file_is_read(tmp_path: Path) -> None:
    """Id, contract, class names, layout and output shapes come from the file alone."""
    path = save(TinyModel(), tmp_path / "model.onnx")
    model = read_model(path)
    assert model.model_id == sha256_of(path.read_bytes())
    assert model.spec == SPEC
    assert model.class_names == ("scratch", "missing")
    assert model.layout == "dense"
    assert model.output_shapes == {"detections": (1, 6, 16), "features": (1, 4)}


def test_open_sizes_are_known_as_such(tmp_path: Path) -> None:
    """An output whose size the graph leaves open has no shape, the other keeps its own."""
    model = read_model(save(TinyModel(dynamic=True), tmp_path / "model.onnx"))
    assert model.output_shapes == {"detections": None, "features": (1, 4)}


@pytest.mark.parametrize(
    ("properties", "complaint"),
    [
        ((), "whetstone.input_spec"),
        ((("whetstone.classes", CLASSES_JSON),), "whetstone.input_spec"),
        ((("whetstone.input_spec", "{"), ("whetstone.classes", CLASSES_JSON)), "InputSpec"),
        ((("whetstone.input_spec", '{"width": 1}'), ("whetstone.classes", CLASSES_JSON)), "height"),
        ((("whetstone.input_spec", SPEC_JSON),), "whetstone.classes"),
        ((("whetstone.input_spec", SPEC_JSON), ("whetstone.classes", "[]")), "class names"),
        ((("whetstone.input_spec", SPEC_JSON), ("whetstone.classes", '["a", "a"]')), "different class names"),
        ((("whetstone.input_spec", SPEC_JSON), ("whetstone.classes", '["a", 1]')), "class names"),
        ((("whetstone.input_spec", SPEC_JSON), ("whetstone.classes", '["a", ["b"]]')), "class names"),
        ((("whetstone.input_spec", SPEC_JSON), ("whetstone.classes", '{"a": 1}')), "class names"),
        (
            (("whetstone.input_spec", SPEC_JSON), ("whetstone.classes", '["a"]')),
            r"for 1 classes, got \(1, 6, 16\)",
        ),
    ],
)
def test_bad_metadata_is_refused(
    properties: tuple[tuple[str, str], ...], complaint: str, tmp_path: Path
) -> None:
    """Missing, unreadable or contradicting metadata is named, with the file."""
    path = save(TinyModel(properties=properties), tmp_path / "odd.onnx")
    with pytest.raises(ModelFileError, match=complaint) as caught:
        read_model(path)
    assert "odd.onnx" in str(caught.value)
    assert caught.value.diagnostics()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"width": 96}, "one input"),
        ({"input_name": "picture"}, "picture"),
        ({"detections_name": "boxes"}, "boxes"),
        ({"features_name": "pool"}, "pool"),
        ({"head": "end2end"}, r"\(1, n, 6\)"),
    ],
)
def test_metadata_and_graph_must_agree(changes: dict[str, object], complaint: str, tmp_path: Path) -> None:
    """A contract that the graph does not keep is refused before any frame is shown to the model."""
    spec = SPEC.model_copy(update=changes)
    properties = (("whetstone.input_spec", encode(spec).decode()), ("whetstone.classes", CLASSES_JSON))
    path = save(replace(TinyModel(), properties=properties), tmp_path / "odd.onnx")
    with pytest.raises(ModelFileError, match=complaint):
        read_model(path)


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x0a" * 200])
def test_other_bytes_are_refused(content: bytes, tmp_path: Path) -> None:
    """A file that is no ONNX model is named, with what onnxruntime says of it."""
    path = tmp_path / "torn.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"torn\.onnx: expected an ONNX model"):
        read_model(path)


def test_a_truncated_model_is_refused(tmp_path: Path) -> None:
    """Half a download is not a model."""
    path = save(TinyModel(positions=400), tmp_path / "half.onnx")
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(ModelFileError):
        read_model(path)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    """A path that cannot be read as a file is an error about the file."""
    with pytest.raises(ModelFileError, match="readable"):
        read_model(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [{"strides": (8, 16)}, {"strides": (8, 16, 64)}, {"strides": ()}, {"class_names": ("a", "b", "c")}],
    ids=["output-left-out", "other-grid", "no-strides", "other-classes"],
)
def test_an_early_head_must_have_the_levels_it_names(changes: dict[str, object], tmp_path: Path) -> None:
    """A head that ends early is only decoded when every stride's grid and class count fit."""
    spec = InputSpec(width=64, height=64, head="dfl", strides=(8, 16, 32))
    names = changes.pop("class_names", ("scratch", "missing"))
    spec = spec.model_copy(update=changes)
    properties = (("whetstone.input_spec", encode(spec).decode()), ("whetstone.classes", json.dumps(names)))
    path = save(TinyModel(head="dfl", properties=properties), tmp_path / "odd.onnx")
    with pytest.raises(ModelFileError, match=r"strides|boxes_64|also"):
        read_model(path)
