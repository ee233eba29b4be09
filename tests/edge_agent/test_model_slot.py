"""Test how a model gets into service and out of it."""

from __future__ import annotations

import threading

from detection.errors import EngineFailed
from edge_agent.model_slot import ModelSlot, ServingModel
from tests.edge_agent.builders import boxes, model_of, picture


def is_closed(model: ServingModel) -> bool:
    try:
        model.detector.infer(picture(1))
    except EngineFailed:
        return True
    return False


def test_an_offered_model_serves_only_once_it_was_taken() -> None:
    """The loop chooses the moment: between two frames."""
    slot, model = ModelSlot(), model_of(1, boxes())
    slot.offer(model)
    assert slot.current() is None
    assert slot.take() is model
    assert slot.current() is model
    assert slot.take() is None


def test_the_old_model_stays_open_until_the_new_one_is_confirmed() -> None:
    """A fall-back needs no file and no time."""
    slot, old, new = ModelSlot(), model_of(1, boxes()), model_of(2, boxes())
    for model in (old, new):
        slot.offer(model)
        slot.take()
    assert not is_closed(old)
    slot.confirm()
    assert is_closed(old)
    assert not is_closed(new)


def test_an_offer_that_was_never_taken_is_closed_by_the_next() -> None:
    """Of two offers between two frames the later counts, and the engine of the other is given back."""
    slot, first, second = ModelSlot(), model_of(1, boxes()), model_of(2, boxes())
    slot.offer(first)
    slot.offer(second)
    assert is_closed(first)
    assert slot.take() is second


def test_a_failing_model_gives_way_to_the_one_before() -> None:
    """The one before serves again at once, and the failure is kept for the updater."""
    slot, old, new = ModelSlot(), model_of(1, boxes()), model_of(2, boxes())
    for model in (old, new):
        slot.offer(model)
        slot.take()
    assert slot.fail("engine broke") is old
    assert slot.current() is old
    failure = slot.failure()
    assert failure is not None
    assert (failure.release_version, failure.problem) == (2, "engine broke")
    slot.confirm()
    assert is_closed(new)


def test_a_failing_model_without_one_before_it_stays() -> None:
    """It may manage the next frame; nothing else could."""
    slot, only = ModelSlot(), model_of(1, boxes())
    slot.offer(only)
    slot.take()
    assert slot.fail("one bad frame") is only
    assert ModelSlot().fail("nothing serves") is None


def test_three_models_in_a_row_are_all_closed_but_the_last() -> None:
    """Models replaced before they were confirmed are not forgotten."""
    slot, models = ModelSlot(), [model_of(version, boxes()) for version in (1, 2, 3)]
    for model in models:
        slot.offer(model)
        slot.take()
    slot.confirm()
    assert [is_closed(model) for model in models] == [True, True, False]
    slot.close()
    assert is_closed(models[2])


def test_good_frames_are_counted_from_the_swap_on() -> None:
    """The updater confirms a model by the frames it inspected itself."""
    slot = ModelSlot()
    slot.offer(model_of(1, boxes()))
    slot.take()
    slot.note_good_frame()
    assert slot.good_frames() == 1
    slot.offer(model_of(2, boxes()))
    slot.take()
    assert slot.good_frames() == 0


def test_waiting_ends_when_a_model_is_offered() -> None:
    """A box without a model starts to inspect as soon as it gets one."""
    slot = ModelSlot()
    threading.Timer(0.05, lambda: slot.offer(model_of(1, boxes()))).start()
    assert slot.wait_for_offer(5.0)
    assert slot.take() is not None


def test_a_failure_that_cost_a_model_its_place_is_not_hidden_by_later_ones() -> None:
    """The updater looks now and then; what the older model fails at meanwhile must not save the newer one."""
    slot, old, new = ModelSlot(), model_of(1, boxes()), model_of(2, boxes())
    for model in (old, new):
        slot.offer(model)
        slot.take()
    for _ in range(3):
        assert slot.fail("a frame nobody can inspect") is old
    failure = slot.failure()
    assert failure is not None
    assert failure.release_version == 2
