"""Hold the choice of a smoke test's images to being few, spread, and the same every time."""

from __future__ import annotations

from tests.trainer.scenes import member
from trainer.planning.smoke import few_members


def test_a_smoke_test_takes_few_images_of_each_split() -> None:
    """At most so many to train on and to validate on, in their order, with boxes first; golden ones never."""
    made = [
        member(seed, split)[0] for seed, split in enumerate(["train"] * 30 + ["val"] * 20 + ["golden"] * 5)
    ]
    empty = [one.model_copy(update={"boxes": ()}) if number % 3 else one for number, one in enumerate(made)]
    few = few_members(empty, 8)
    assert [one.split for one in few].count("train") == 8
    assert [one.split for one in few].count("val") == 8
    assert "golden" not in [one.split for one in few]
    assert list(few) == [one for one in empty if one in few]
    assert few == few_members(empty, 8)
    assert all(one.boxes for one in few if one.split == "train")


def test_too_few_with_boxes_are_filled_up() -> None:
    """Images without boxes are taken where there are not enough others."""
    made = [member(seed, "train")[0].model_copy(update={"boxes": ()}) for seed in range(5)]
    assert len(few_members(made, 3)) == 3
    assert len(few_members(made, 64)) == 5


def test_without_a_bound_all_are_taken() -> None:
    """Every other run trains on the whole snapshot, golden images included in what is handed on."""
    made = [member(seed, split)[0] for seed, split in enumerate(["train", "val", "golden"])]
    assert few_members(made, 0) == tuple(made)
