"""Test what the trainer writes of its training into the file that ships."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from detection.model_file import read_model
from detection.novelty import FEATURES_KEY, MAX_JSON_BYTES
from detection.session import Detector
from tests.trainer.scenes import NAMES, SIZE, items, scene
from trainer.backend_job import BackendEvent, BackendResult
from trainer.dataset import DatasetOnDisk, write_dataset
from trainer.feature_reference import MOST_IMAGES, add_reference, reference_of, train_files

Trained = tuple[BackendResult, list[BackendEvent]]


def picture(seed: int) -> np.ndarray:
    """Return a scene as a frame."""
    return np.asarray(cv2.imdecode(np.frombuffer(scene(seed)[0], np.uint8), cv2.IMREAD_COLOR), np.uint8)


@pytest.fixture(scope="module")
def described(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model file with a reference made from sixty scenes."""
    folder = tmp_path_factory.mktemp("described")
    dataset = write_dataset(folder / "dataset", NAMES, items(64))
    assert trained[0].onnx is not None
    path = Path(shutil.copy(trained[0].onnx, folder / "model.onnx"))
    assert add_reference(path, train_files(dataset.folder)) is not None
    return path


def test_a_training_ships_a_reference_inside_the_hashed_file(trained: Trained) -> None:
    """The hash that was told is that of the file with the reference in it (law 6)."""
    result, events = trained
    assert result.onnx is not None
    model = read_model(result.onnx)
    assert model.model_id == result.onnx_sha256
    assert model.feature_reference is not None
    assert next(event for event in events if event.kind == "exported").data["feature_reference"] is True


def test_a_far_image_is_novel_and_one_like_training_is_not(described: Path) -> None:
    """Scenes the training did not see lie below 1, noise and a white wall beyond it."""
    detector = Detector.load(described)
    reference = detector.feature_reference
    assert reference is not None

    def distance(image: np.ndarray) -> float:
        features = detector.infer(image).features
        assert features is not None
        return reference.distance(features)

    usual = [distance(picture(seed)) for seed in range(1000, 1060)]
    assert sum(one < 1.0 for one in usual) >= 56
    noise = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    assert distance(noise) > 1.0
    assert distance(np.full((SIZE, SIZE, 3), 255, np.uint8)) > 1.0
    detector.close()


def test_the_same_training_gives_the_same_file(trained: Trained, described: Path, tmp_path: Path) -> None:
    """Nothing is drawn; writing again replaces the property and keeps the others."""
    dataset = described.parent / "dataset"
    again = Path(shutil.copy(described, tmp_path / "again.onnx"))
    assert add_reference(again, train_files(dataset)) is not None
    assert again.read_bytes() == described.read_bytes()
    assert read_model(again).spec == trained[0].input_spec


def test_images_are_chosen_evenly_and_never_from_validation(dataset: DatasetOnDisk, tmp_path: Path) -> None:
    """The choice is bounded, the same each time, and takes the first and last training image."""
    assert len(train_files(dataset.folder)) == dataset.train_images
    chosen = train_files(dataset.folder, 3)
    every = train_files(dataset.folder)
    assert (chosen[0], chosen[-1], len(chosen)) == (every[0], every[-1], 3)
    assert MOST_IMAGES >= 256
    held_back = {f"scene-{number:03d}.jpg" for number in range(12, 16)}
    assert held_back.isdisjoint(file.name for file in every)


def test_too_few_images_and_unreadable_ones_give_no_reference(trained: Trained, tmp_path: Path) -> None:
    """The file stays as it was, byte for byte."""
    assert trained[0].onnx is not None
    path = Path(shutil.copy(trained[0].onnx, tmp_path / "model.onnx"))
    before = path.read_bytes()
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"not an image")
    assert add_reference(path, [broken] * 50) is None
    assert add_reference(path, []) is None
    assert path.read_bytes() == before


@pytest.mark.parametrize("dimensions", [1, 32, 256, 1280, 4000])
def test_a_reference_of_any_size_fits_the_property(dimensions: int) -> None:
    """Longer vectors get fewer centroids."""
    vectors = np.random.default_rng(0).normal(size=(300, dimensions)).astype(np.float32)
    reference = reference_of(list(vectors))
    assert reference is not None
    assert len(reference.to_json()) <= MAX_JSON_BYTES, FEATURES_KEY
    inside = sum(reference.distance(one) <= 1.05 for one in vectors)
    assert inside >= 290


@pytest.mark.parametrize(
    "vectors",
    [
        np.zeros((50, 8), np.float32),
        np.full((50, 8), np.nan, np.float32),
        np.tile(np.asarray([[1.0, 2.0, 0.1], [3.0, -1.0, 0.7]], np.float32), (30, 1)),
        np.random.default_rng(0).normal(size=(50, 40_000)).astype(np.float32),
        np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32) * 1e9,
        np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32) * 1e-9,
    ],
)
def test_vectors_that_say_nothing_give_no_reference(vectors: np.ndarray) -> None:
    """All the same, not numbers, too long for the property, or beyond what it can hold."""
    assert reference_of(list(vectors)) is None
