"""Test what a feature reference says of a vector, and that a damaged one is refused by name."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.errors import ModelFileError
from detection.model_file import read_model
from detection.novelty import MAX_JSON_BYTES, FeatureReference, FeatureSpace
from detection.session import Detector
from tests.detection.onnx_models import TinyModel, save

C = 4


def reference(centroids: np.ndarray | None = None, *, dimensions: int = C) -> FeatureReference:
    """Build a reference around zero whose unit is a distance of 2."""
    space = FeatureSpace(np.zeros(dimensions, np.float32), np.ones(dimensions, np.float32), clip=100.0)
    points = np.zeros((1, dimensions)) if centroids is None else centroids
    return FeatureReference.build(space, points, (0.5, 1.0, 2.0))


vectors = st.lists(st.floats(-50, 50, width=32), min_size=C, max_size=C).map(
    lambda one: np.asarray(one, np.float32)
)


@given(vector=vectors, centroids=st.lists(vectors, min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_the_distance_is_that_to_the_nearest_centroid(
    vector: np.ndarray, centroids: list[np.ndarray]
) -> None:
    """In units of the last quantile, and never negative or without a value."""
    points = np.stack(centroids)
    expected = np.sqrt(((points - vector) ** 2).sum(axis=1)).min() / 2.0
    assert reference(points).distance(vector) == pytest.approx(expected, abs=0.05)


def test_a_reference_survives_its_own_file() -> None:
    """Float16 keeps distances to a thousandth, and the text stays small."""
    random = np.random.default_rng(0)
    one = reference(random.normal(size=(32, 256)), dimensions=256)
    text = one.to_json()
    again = FeatureReference.from_json(text, where="model.onnx")
    vector = random.normal(size=256).astype(np.float32)
    assert again.distance(vector) == pytest.approx(one.distance(vector), rel=2e-3)
    assert again.to_json() == text
    assert len(text) < MAX_JSON_BYTES
    assert again.dimensions == 256


def test_a_dimension_that_spikes_counts_up_to_the_bound() -> None:
    """One wild number is one dimension out of place, not the whole distance."""
    space = FeatureSpace(np.zeros(C, np.float32), np.ones(C, np.float32), clip=2.0)
    one = FeatureReference.build(space, np.zeros((1, C)), (0.5, 1.0, 2.0))
    assert one.distance(np.asarray([1e9, 0, 0, 0], np.float32)) == pytest.approx(1.0)
    assert one.distance(np.asarray([np.inf, 0, 0, 0], np.float32)) == pytest.approx(1.0)
    assert one.distance(np.asarray([np.nan, 0, 0, 0], np.float32)) == math.inf


def test_a_vector_of_another_length_is_refused() -> None:
    """Features of another model are never compared."""
    with pytest.raises(ModelFileError, match=r"\(4,\)"):
        reference().distance(np.zeros(5, np.float32))


def _changed(**changes: object) -> str:
    row = json.loads(reference().to_json())
    return json.dumps({**row, **changes})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        _changed(version=2),
        _changed(method="other"),
        _changed(mean="no base64!"),
        _changed(mean=7),
        _changed(centroids="AAA="),
        _changed(centroids=""),
        _changed(scale="AAAAAAAAAAA="),
        _changed(quantiles=[1, 2]),
        _changed(quantiles=[3, 2, 1]),
        _changed(quantiles=[0, 0, 0]),
        _changed(quantiles=["a", "b", "c"]),
        _changed(clip=0),
        _changed(clip="NaN"),
        " " * (MAX_JSON_BYTES + 1),
    ],
)
def test_a_damaged_reference_is_refused_by_name(text: str) -> None:
    """Missing, mistyped, foreign or impossible content names the property and the file."""
    with pytest.raises(ModelFileError, match=r"whetstone\.features.*odd\.onnx"):
        FeatureReference.from_json(text, where="odd.onnx")


def _with_property(path: Path, text: str) -> Path:
    graph = onnx.load(str(path))
    entry = graph.metadata_props.add()
    entry.key, entry.value = "whetstone.features", text
    path.write_bytes(graph.SerializeToString())
    return path


def test_a_model_file_carries_its_reference_to_the_detector(tmp_path: Path) -> None:
    """What the trainer wrote is what the box measures by; a file without one has none."""
    plain = save(TinyModel(), tmp_path / "plain.onnx")
    assert read_model(plain).feature_reference is None
    path = _with_property(save(TinyModel(), tmp_path / "known.onnx"), reference().to_json())
    detector = Detector.load(path)
    inference = detector.infer(np.zeros((64, 64, 3), np.uint8))
    assert inference.features is not None
    assert detector.feature_reference is not None
    assert detector.feature_reference.distance(inference.features) == pytest.approx(1.0)
    detector.close()


@pytest.mark.parametrize("text", ["{", reference(dimensions=5).to_json()])
def test_a_model_whose_reference_does_not_fit_is_refused(tmp_path: Path, text: str) -> None:
    """Damaged, or of another number of dimensions than the model's own output."""
    path = _with_property(save(TinyModel(), tmp_path / "odd.onnx"), text)
    with pytest.raises(ModelFileError, match=r"odd\.onnx"):
        read_model(path)
