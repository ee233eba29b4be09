"""Test that what must not be stored is not: pixels, original bytes, and boxes that no longer fit."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.detections import Detections
from edge_agent.counters import Counters
from edge_agent.events import Events
from edge_agent.outbox import DiskGuard, Outbox
from edge_agent.outbox.writer import KeptFrame, OutboxWriter
from edge_agent.privacy import Masks
from edge_agent.privacy.geometry import hidden_box, kept_box, move_into
from edge_agent.settings.privacy import MaskConfig, PrivacyConfig
from edge_agent.sources.base import Frame
from edge_agent.world import folder_or_camera
from fleet_contracts.base import decode
from fleet_contracts.samples import HardExample, Reason
from tests.edge_agent.builders import WHEN, boxes, config_of, put_image
from tests.helpers import wait_until

WIDTH, HEIGHT = 160, 120
SECRET = 255
"""What only the region to be hidden shows."""
LEFT_HALF = (0.0, 0.0, 0.5, 1.0)


def picture_with_secret(box: tuple[int, int, int, int]) -> np.ndarray:
    """Draw dark noise, and noise as bright as can be in the box."""
    rng = np.random.default_rng(7)
    image = rng.integers(0, 40, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    left, top, right, bottom = box
    image[top:bottom, left:right] = rng.integers(215, 256, (bottom - top, right - left, 3), dtype=np.uint8)
    image.setflags(write=False)
    return image


def detections(*rows: tuple[float, float, float, float, int]) -> Detections:
    """Build detections from corners and class."""
    return Detections(
        np.asarray([row[:4] for row in rows], np.float32).reshape(len(rows), 4),
        np.full(len(rows), 0.5, np.float32),
        np.asarray([row[4] for row in rows], np.int64),
    )


def masks_of(*masks: MaskConfig, **more: object) -> Masks:
    """Build the masks of camera cam0 for classes part and person."""
    config = PrivacyConfig.model_validate({"masks": masks, **more})
    return Masks(config, "cam0", lambda: ("part", "person"))


def test_black_leaves_nothing_and_the_rest_alone() -> None:
    """The masked pixels are zero, all others are what they were, and the shared frame is untouched."""
    image = picture_with_secret((0, 0, 80, 120))
    before = image.copy()
    hidden, found = masks_of(MaskConfig(rectangle=LEFT_HALF)).apply(image, boxes((0.9, 0)))
    assert not hidden[:, :80].any()
    assert np.array_equal(hidden[:, 80:], image[:, 80:])
    assert np.array_equal(image, before)
    assert found == boxes((0.9, 0))


def test_a_polygon_hides_its_inside_only() -> None:
    """A triangle's inside is gone and the corner opposite stays."""
    image = picture_with_secret((0, 0, WIDTH, HEIGHT))
    mask = MaskConfig(polygon=((0, 0), (1, 0), (0, 1)))
    hidden, _ = masks_of(mask).apply(image, Detections.empty())
    assert not hidden[:50, :50].any()
    assert np.array_equal(hidden[-20:, -20:], image[-20:, -20:])


def test_a_blur_keeps_no_detail() -> None:
    """Two pictures whose averages agree are blurred to the same, however their pixels differ."""
    board = (np.indices((HEIGHT, WIDTH)).sum(axis=0) % 2 * 255).astype(np.uint8)
    one = np.dstack([board] * 3)
    other = 255 - one
    mask = MaskConfig(mode="blur", rectangle=(0, 0, 1, 1))
    first, _ = masks_of(mask).apply(one, Detections.empty())
    second, _ = masks_of(mask).apply(other, Detections.empty())
    assert np.abs(first.astype(int) - second.astype(int)).max() <= 2
    assert np.unique(one).tolist() == [0, 255]


def test_a_crop_moves_and_cuts_the_boxes() -> None:
    """What is stored is the crop, boxes lie in its pixels, and those outside are gone."""
    image = picture_with_secret((0, 0, 40, 120))
    mask = MaskConfig(mode="crop", rectangle=(0.25, 0.0, 1.0, 0.5))
    found = detections((50, 10, 60, 20, 0), (30, 10, 60, 80, 0), (0, 0, 20, 20, 0), (50, 70, 60, 80, 0))
    cropped, moved = masks_of(mask).apply(image, found)
    assert cropped.shape == (60, 120, 3)
    assert np.array_equal(cropped, image[:60, 40:])
    assert moved.xyxy.tolist() == [[10, 10, 20, 20], [0, 10, 20, 60]]


def test_a_detected_class_is_hidden_with_a_margin() -> None:
    """A person is hidden where one was seen; a class nobody knows the name of is hidden too."""
    image = picture_with_secret((40, 40, 80, 80))
    masks = masks_of(classes=["person"], class_mode="black", class_margin=0.1)
    hidden, _ = masks.apply(image, detections((40, 40, 80, 80, 1)))
    assert not hidden[36:84, 36:84].any()
    unnamed, _ = masks.apply(image, detections((40, 40, 80, 80, 9)))
    assert not unnamed[40:80, 40:80].any()
    untouched, _ = masks.apply(image, detections((40, 40, 80, 80, 0)))
    assert untouched is image


def test_masks_of_other_cameras_are_passed_over() -> None:
    """Each camera has its own masks; "" is every camera."""
    image = picture_with_secret((0, 0, 80, 120))
    elsewhere = masks_of(MaskConfig(camera="cam9", rectangle=LEFT_HALF))
    assert elsewhere.apply(image, Detections.empty())[0] is image
    assert not elsewhere.hides_always


@given(
    st.lists(st.floats(0, 1), min_size=2, max_size=2, unique=True).map(sorted),
    st.lists(st.floats(0, 1), min_size=2, max_size=2, unique=True).map(sorted),
    st.integers(1, 400),
    st.integers(1, 400),
)
@settings(max_examples=200, deadline=None)
def test_hidden_grows_and_kept_shrinks_to_whole_pixels(
    xs: list[float], ys: list[float], width: int, height: int
) -> None:
    """No pixel that is hidden in part is stored, and a crop lies within the picture."""
    shares = (xs[0], ys[0], xs[1], ys[1])
    left, top, right, bottom = hidden_box(shares, width, height)
    assert left <= xs[0] * width + 1e-6
    assert right >= xs[1] * width - 1e-6
    assert top <= ys[0] * height + 1e-6
    assert bottom >= ys[1] * height - 1e-6
    kept = kept_box(shares, width, height)
    assert 0 <= kept[0] < kept[2] <= width
    assert 0 <= kept[1] < kept[3] <= height


@given(st.lists(st.tuples(*[st.floats(-50, 250)] * 4), max_size=6))
@settings(max_examples=100, deadline=None)
def test_boxes_of_a_crop_fit_it(rows: list[tuple[float, float, float, float]]) -> None:
    """Whatever the model said, no box leaves the stored picture."""
    found = move_into(detections(*[(*row, 0) for row in rows]), (20, 10, 120, 90))
    assert (found.xyxy >= 0).all()
    assert (found.xyxy[:, [0, 2]] <= 100).all()
    assert (found.xyxy[:, [1, 3]] <= 80).all()
    assert (found.xyxy[:, 2:] > found.xyxy[:, :2]).all()


@pytest.mark.parametrize("from_file", [True, False])
@pytest.mark.parametrize(
    "mask",
    [
        {"mode": "black", "rectangle": LEFT_HALF},
        {"mode": "blur", "polygon": [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]},
        {"mode": "crop", "rectangle": [0.5, 0.0, 1.0, 1.0]},
    ],
)
def test_what_is_stored_shows_nothing_of_what_is_hidden(
    tmp_path: Path, mask: dict[str, object], *, from_file: bool
) -> None:
    """The stored JPEG, the announcement and the sample id are those of the masked picture."""
    config = config_of(tmp_path, privacy={"masks": [mask]})
    outbox = Outbox(tmp_path / "outbox", DiskGuard(10**9, 0))
    masks = Masks(config.privacy, config.camera.name)
    writer = OutboxWriter(config, outbox, Counters(), Events(), masks)
    image = picture_with_secret((10, 10, 30, 30))
    original = cv2.imencode(".jpg", image)[1].tobytes()
    frame = Frame(image, WHEN, "part-1", jpeg=original if from_file else None)
    found = detections((10, 10, 30, 30, 0), (90, 20, 110, 40, 0))
    writer.start()
    writer.keep(KeptFrame(frame, found, "0" * 64, 1, "unsure", (Reason(rule="uncertain", score=0.5),)))
    wait_until(lambda: outbox.waiting() == 1, 10, "the example")
    row = outbox.due(1)[0]
    files = outbox.read(row.sample_id)
    writer.stop()
    assert files is not None
    stored, announcement = files
    example = decode(HardExample, announcement, where="announcement")
    assert stored != original
    seen = cv2.imdecode(np.frombuffer(stored, np.uint8), cv2.IMREAD_COLOR)
    assert (example.image.width, example.image.height) == (seen.shape[1], seen.shape[0])
    # Only the secret is bright, and a blur mixes it with the dark around it.
    assert seen.max() < 200
    assert np.abs(seen[-40:, -40:].astype(int) - image[-40:, -40:]).mean() < 15
    for box in example.detections:
        assert 0 <= box.x1 < box.x2 <= example.image.width
        assert 0 <= box.y1 < box.y2 <= example.image.height
    assert len(example.detections) == (1 if mask["mode"] == "crop" else 2)
    assert not list((tmp_path / "outbox").rglob("*original*"))


def test_a_frame_that_cannot_be_masked_is_lost_rather_than_stored(tmp_path: Path) -> None:
    """An error while hiding costs the example and is counted; nothing unmasked reaches the disk."""
    config = config_of(tmp_path)
    outbox, counters = Outbox(tmp_path / "outbox", DiskGuard(10**9, 0)), Counters()

    def no_names() -> tuple[str, ...]:
        raise RuntimeError("the slot is gone")

    masks = Masks(PrivacyConfig(classes=("person",)), "cam0", no_names)
    writer = OutboxWriter(config, outbox, counters, Events(), masks)
    image = picture_with_secret((10, 10, 30, 30))
    writer.start()
    frame = Frame(image, WHEN, "part-1")
    kept = KeptFrame(frame, boxes((0.5, 0)), "0" * 64, 1, "unsure", (Reason(rule="uncertain", score=0.5),))
    writer.keep(replace(kept))
    wait_until(lambda: counters.value("outbox_lost") == 1, 10, "the loss")
    writer.stop()
    assert outbox.waiting() == 0


@pytest.mark.parametrize("keep", [True, False])
def test_a_file_that_cannot_be_masked_is_set_aside_or_deleted(tmp_path: Path, *, keep: bool) -> None:
    """What no codec reads shows itself to nobody who asked for `keep_unreadable = false`."""
    config = config_of(tmp_path, privacy={"keep_unreadable": keep}, camera={"follow": False})
    bad = put_image(tmp_path / "frames", "bad.jpg", b"\xff\xd8 half a picture")
    os.utime(bad, (1, 1))
    counters = Counters()
    reader = folder_or_camera(config, set(), counters, Events())
    assert reader.read(0.1) is None
    assert counters.value("frames_unreadable") == 1
    assert not bad.exists()
    assert (config.data_dir / "quarantine" / "bad.jpg").exists() == keep


def test_half_a_picture_is_not_set_aside_where_something_is_to_be_hidden() -> None:
    """A cut file shows what a mask would hide; only who asks for it by name gets it kept."""
    mask = {"rectangle": (0.0, 0.0, 0.5, 0.5)}
    assert PrivacyConfig().keep_unreadable
    assert not PrivacyConfig.model_validate({"masks": [mask]}).keep_unreadable
    assert not PrivacyConfig(classes=("person",)).keep_unreadable
    assert PrivacyConfig.model_validate({"masks": [mask], "keep_unreadable": True}).keep_unreadable
