"""What is chosen by lot or by rule: random parts for comparison, golden images, and who is asked again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from demo.images.layout import ImageFolder, ImageRow
from demo.images.run import least_examples, old_images, task_spec
from demo.images.settings import ImagesSettings
from demo.loop.floor import BoxAddresses, BoxFolder, write_agent_config
from demo.loop.patience import patiently
from demo.loop.random_choice import all_frames, choose_frames
from demo.loop.settings import LoopSettings
from edge_agent.config import load_config
from flows.errors import StoreAway


def _row(number: int, split: str = "base_train") -> ImageRow:
    return ImageRow(f"p{number:03d}", f"board-{number % 3}", split, Path(f"{number}.jpg"), Path(f"{number}.txt"))


def test_golden_images_are_spread_and_few() -> None:
    """Golden images are an even choice of the old ones, at most a fifth where there are few."""
    many = old_images(tuple(_row(n) for n in range(700)), ImagesSettings())
    golden = [index for index, item in enumerate(many) if item.pinned == "golden"]
    assert len(golden) == ImagesSettings().training.golden_images
    assert max(b - a for a, b in zip(golden, golden[1:], strict=False)) <= 8
    few = old_images(tuple(_row(n) for n in range(10)), ImagesSettings())
    assert sum(item.pinned == "golden" for item in few) == 2
    assert {item.slices["board"] for item in few} == {"board-0", "board-1", "board-2"}


def test_old_images_that_are_none_are_no_error() -> None:
    """A single old image trains, and none is golden."""
    assert [item.pinned for item in old_images((_row(1),), ImagesSettings())] == ["train"]


def test_task_never_names_what_is_held_back() -> None:
    """Neither `new_val` nor `base_val` enters the task, whatever the folder holds."""
    rows = tuple(_row(n, split) for n, split in enumerate(("base_train", "base_val", "new_pool", "new_val") * 6))
    data = ImageFolder(Path("data"), ("open",), rows)
    spec = task_spec(data, Path("model.pt"), ImagesSettings())
    assert {item.name for item in spec.old_data} == {row.stem for row in data.split("base_train")}
    assert spec.settings.trigger_threshold == least_examples(ImagesSettings(), data) == 1


def test_random_frames_are_the_same_for_a_seed(tmp_path: Path) -> None:
    """The lot is drawn among frames whose truth is known, each at most once, the same for the same seed."""
    folder = BoxFolder(tmp_path)
    folder.camera.mkdir()
    folder.truth.mkdir()
    for number in range(30):
        (folder.camera / f"box-a-{number:06d}__0.jpg").write_bytes(b"x")
        if number != 7:
            (folder.truth / f"box-a-{number:06d}.txt").write_text("")
    frames = all_frames([folder])
    assert len(frames) == 29
    train, val = choose_frames(frames, 12, 4, seed=3)
    assert (train, val) == choose_frames(frames, 12, 4, seed=3)
    assert len({one.part_id for one in (*train, *val)}) == 16


def test_agent_reads_the_configuration_it_is_given(tmp_path: Path) -> None:
    """The file the demo writes for a box is one the box accepts, with the demo's own numbers in it."""
    settings = LoopSettings()
    at = BoxAddresses("127.0.0.1", 1883, {"box-a": tmp_path / "secret"}, "http://127.0.0.1:8080/",
                      tmp_path / "root.json")  # fmt: skip
    config = load_config(write_agent_config(BoxFolder(tmp_path / "box-a"), "box-a", settings, at))
    assert (config.task_id, config.device_id) == (settings.task_id, "box-a")
    assert (config.mining.low, config.mining.high) == (settings.mining.low, settings.mining.high)
    assert config.camera.source == f"folder:{tmp_path / 'box-a' / 'camera'}"
    assert os.fspath(config.broker.password_file or "") == str(tmp_path / "secret")


def test_patience_asks_again_and_ends() -> None:
    """A store that comes back is asked again; one that stays away is reported as such."""
    answers = iter([StoreAway(expected="an answer", got="none", where="store"), None])

    def work() -> str:
        problem = next(answers)
        if problem is not None:
            raise problem
        return "done"

    assert patiently(work, 5.0) == "done"
    with pytest.raises(StoreAway):
        patiently(_away, 0.0)


def _away() -> None:
    raise StoreAway(expected="an answer", got="none", where="store")
