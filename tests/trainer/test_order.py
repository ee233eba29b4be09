"""Take epochs up in their middle, share them among processes, and follow rates: pure rules."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.ultralytics_backend.order import Share, batches_of, picks_of, seed_of
from trainer.ultralytics_backend.rates import Schedule, rates_at

IMAGES = 23
FOUR = Share(4)


def _epoch(epoch: int, *, done: int = 0, share: Share = FOUR, seed: int = 7) -> list[tuple[int, int]]:
    return list(picks_of(IMAGES, seed=seed, epoch=epoch, done=done, share=share))


def test_an_epoch_shows_every_image_once_and_the_next_in_another_order() -> None:
    """Order and augmentation differ from epoch to epoch and from seed to seed, and repeat for the same ones."""
    first, second = _epoch(0), _epoch(1)
    assert sorted(one for one, _ in first) == list(range(IMAGES))
    assert [one for one, _ in first] != [one for one, _ in second]
    assert first == _epoch(0)
    assert first != _epoch(0, seed=8)
    assert len({seed for _, seed in first + second}) == 2 * IMAGES


@pytest.mark.parametrize("share", [Share(4), Share(8), Share(3)])
def test_what_is_left_of_an_epoch_is_what_would_have_come(share: Share) -> None:
    """From any place on, with any batch, the same images come with the same augmentation."""
    assert _epoch(5, done=8, share=share) == _epoch(5)[8:]
    assert batches_of(IMAGES, done=8, share=share) == -(-15 // share.batch)


@pytest.mark.parametrize("done", [0, 8, 21])
def test_processes_together_take_the_batches_of_one(done: int) -> None:
    """Two processes' halves make up one's batches; an odd rest is filled up so that both step as often."""
    alone = _epoch(3, done=done)
    halves = [_epoch(3, done=done, share=Share(4, rank, 2)) for rank in (0, 1)]
    assert len(halves[0]) == len(halves[1])
    for batch in range(batches_of(IMAGES, done=done, share=Share(4))):
        whole = alone[batch * 4 : batch * 4 + 4]
        mine = len(halves[0][batch * 2 : batch * 2 + 2])
        together = [*halves[0][batch * 2 : batch * 2 + mine], *halves[1][batch * 2 : batch * 2 + mine]]
        assert together[: len(whole)] == whole


def test_neighbouring_places_get_unlike_seeds() -> None:
    """Seeds of neighbours share no pattern that random generators would show."""
    bits = np.array([seed_of(0, 0, place) & 0xFFFF_FFFF for place in range(2000)], np.uint64)
    ones = np.unpackbits(bits.astype(">u4").view(np.uint8)).reshape(-1, 32).mean(0)
    assert abs(ones - 0.5).max() < 0.06


def _schedule(batch: int = 4, accumulation: int = 4, **changes: float) -> Schedule:
    values = {"epochs": 10, "batches": 100 // batch, "batch": batch, "accumulation": accumulation,
              "warmup_steps": 2 * 100 // batch, "final_share": 0.1, "warmup_bias_rate": 0.1,
              "warmup_momentum": 0.8, "momentum": 0.9, **changes}  # fmt: skip
    return Schedule(**values)  # type: ignore[arg-type]  # the values are those types


@pytest.mark.parametrize(("epoch", "step"), [(0, 0), (0, 7), (1, 24), (2, 0), (6, 3)])
def test_rates_are_those_of_ultralytics(epoch: int, step: int) -> None:
    """Warm-up and decay follow the formulas of ultralytics' loop."""
    rates = rates_at(_schedule(), epoch, step * 4)
    ni, nw, level = step + 25 * epoch, 50, (1 - epoch / 10) * 0.9 + 0.1
    for bias in (False, True):
        expected = np.interp(ni, [0, nw], [0.1 if bias else 0.0, 0.01 * level]) if ni <= nw else 0.01 * level
        assert rates.rate_of(0.01, bias=bias) == pytest.approx(expected)
    assert rates.momentum == pytest.approx(np.interp(ni, [0, nw], [0.8, 0.9]))
    assert rates.accumulation == max(1, int(np.interp(ni, [0, nw], [1, 4]).round()))


def test_rates_go_on_where_the_batch_changes_within_an_epoch() -> None:
    """The same image gets the same rate, whatever batch it is in."""
    for epoch, images in ((0, 40), (1, 80), (4, 20)):
        before = rates_at(_schedule(), epoch, images)
        after = rates_at(_schedule(batch=2, accumulation=8), epoch, images)
        assert after.rate_of(0.01, bias=False) == pytest.approx(before.rate_of(0.01, bias=False))
        assert after.rate_of(0.01, bias=True) == pytest.approx(before.rate_of(0.01, bias=True))


def test_a_rolled_back_run_goes_on_at_half_the_rate() -> None:
    """The scale that rollbacks leave holds in the warm-up and after it."""
    for epoch in (0, 5):
        whole, half = (rates_at(_schedule(scale=scale), epoch, 40) for scale in (1.0, 0.5))
        assert half.rate_of(0.01, bias=False) == pytest.approx(whole.rate_of(0.01, bias=False) / 2)
        assert half.rate_of(0.01, bias=True) == pytest.approx(whole.rate_of(0.01, bias=True) / 2)
