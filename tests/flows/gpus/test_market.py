"""Play on the simulated market: the optimum is a bound, our policy is never late, and prices are what was paid."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.renting_parts.orphans import orphans_of
from flows.gpus.market import rivals
from flows.gpus.market.climate import Climate, Work, grid
from flows.gpus.market.optimum import optimum
from flows.gpus.market.play import play
from flows.gpus.market.world import World, draw
from flows.gpus.spot import Move, Offer, Situation, decide

FIRST_OF_TRIALS = 20_000
CELLS = st.sampled_from(grid())
SEEDS = st.integers(FIRST_OF_TRIALS, FIRST_OF_TRIALS + 5000)


def world_of(has_spot: list[list[int]], spot: float = 0.3) -> World:
    """Build a world by hand: on demand costs a dollar an hour, spot always the same."""
    has = np.array(has_spot, bool)
    return World((1.0,) * len(has), np.full(has.shape, spot), has)


def test_the_grid_is_the_one_that_was_promised() -> None:
    """Four discounts, three times to preemption and three slacks."""
    cells = grid()
    assert len(cells) == 36
    assert {climate.discount for climate, _ in cells} == {0.0, 0.5, 0.6, 0.7}
    assert {climate.hours_to_preemption for climate, _ in cells} == {1.0, 4.0, 12.0}
    assert {work.slack for _, work in cells} == {1.2, 1.5, 2.0}


def test_worlds_are_what_their_climate_says() -> None:
    """Spot costs the discount less, lives as long as it should, and one seed gives one world."""
    climate = Climate(discount=0.6, hours_to_preemption=4.0)
    world = draw(climate, 200_000, 1)
    again = draw(climate, 200_000, 1)
    assert np.array_equal(world.has_spot, again.has_spot)
    assert world.has_spot.mean() == pytest.approx(4.0 / 4.5, abs=0.02)
    assert world.spot_price.mean() == pytest.approx(0.4 * np.mean(climate.on_demand), rel=0.16)
    deaths = np.sum(world.has_spot[:, :-1] & ~world.has_spot[:, 1:])
    assert world.has_spot.sum() / deaths == pytest.approx(240.0, rel=0.1)
    steady = np.asarray(climate.on_demand)[:, None]
    assert np.all(world.spot_price <= steady)


@settings(max_examples=60, deadline=None)
@given(cell=CELLS, seed=SEEDS)
def test_nobody_pays_less_than_the_optimum_and_ours_is_never_late(
    cell: tuple[Climate, Work], seed: int
) -> None:
    """Every policy that keeps the deadline pays at least the optimum; ours keeps it whenever on demand does."""
    climate, work = cell
    world = draw(climate, work.deadline * 4, seed)
    least = optimum(world, work)
    policies = (decide, rivals.always_on_demand, rivals.always_cheapest_spot,
                rivals.recovery(any_of=True), rivals.recovery(any_of=False))  # fmt: skip
    outcomes = [play(world, work, policy) for policy in policies]
    assert not outcomes[0].is_late
    assert not outcomes[1].is_late
    for outcome in outcomes:
        assert outcome.is_late or outcome.cost >= least - 1e-9
        assert outcome.lost_minutes <= (outcome.starts - 1) * (work.epoch - 1) + work.epoch


def test_the_optimum_is_that_of_every_plan_tried_by_hand() -> None:
    """On a tiny world the dynamic programme finds what trying every plan finds."""
    work = Work(minutes=3, cold_start=1, epoch=1, slack=2.0)
    rng = np.random.default_rng(3)
    for _ in range(20):
        world = world_of([rng.integers(0, 2, 8).tolist()], spot=0.5)
        assert optimum(world, work) == pytest.approx(_by_trying(world, work))


def _by_trying(world: World, work: Work) -> float:
    """Try every sequence of idle, spot and on demand; a change of machine costs a start."""
    best = np.inf
    for plan in product(("", "spot", "steady"), repeat=work.deadline):
        cost, done, cold, here = 0.0, 0, 0, ""
        for minute, place in enumerate(plan):
            if place == "spot" and not world.has_spot[0, minute]:
                cost = np.inf
                break
            if place != here:
                cold = work.cold_start if place else 0
                here = place
            if not here:
                continue
            cost += (world.spot_price[0, minute] if here == "spot" else 1.0) / 60.0
            if cold:
                cold -= 1
            else:
                done += 1
            if done == work.minutes:
                best = min(best, cost)
                break
    return best


def test_preemption_loses_what_was_not_saved_and_waits_for_spot_while_there_is_time() -> None:
    """A machine that goes takes the unfinished epoch with it; a free minute is not paid for."""
    work = Work(minutes=6, cold_start=1, epoch=4, slack=4.0)
    world = world_of([[1] * 6 + [0] * 3 + [1] * 30])
    outcome = play(world, work, decide)
    assert (outcome.preemptions, outcome.lost_minutes, outcome.starts) == (1, 1, 2)
    assert outcome.done_at == 12
    assert outcome.cost == pytest.approx((6 + 3) * 0.3 / 60)


def test_on_demand_is_taken_when_time_runs_out_and_kept() -> None:
    """Without any spot machine the run waits as long as it may, then pays the full price, and is on time."""
    work = Work(minutes=30, cold_start=2, epoch=3, slack=1.5)
    outcome = play(world_of([[0] * 100]), work, decide)
    assert outcome.done_at is not None
    assert outcome.done_at <= outcome.deadline
    assert outcome.cost == pytest.approx(32 / 60)
    assert outcome.starts == 1


def situation(**changes: object) -> Situation:
    """Build a calm situation: hours of time, a spot and an on-demand offer."""
    offers = (Offer("spot", True, 0.4), Offer("steady", False, 1.0))
    calm = Situation(time_left=600, work_saved=240, work_here=240, cold_start=6, epoch=3, offers=offers)
    return replace(calm, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (situation(), ("rent", "spot")),
        (situation(time_left=247), ("rent", "steady")),
        (situation(time_left=247, here="steady"), ("stay", "")),
        (situation(here="spot"), ("stay", "")),
        (situation(offers=(Offer("spot", True, 0.4, available=False), Offer("steady", False, 1.0))), ("wait", "")),
        (situation(offers=(Offer("spot", True, 0.97, available=False), Offer("steady", False, 1.0))),
         ("rent", "steady")),
        (situation(offers=(Offer("spot", True, 0.4, deaths=40, lived=60), Offer("steady", False, 1.0))),
         ("rent", "steady")),
        (situation(offers=()), ("wait", "")),
    ],
)  # fmt: skip
def test_moves(now: Situation, expected: tuple[str, str]) -> None:
    """Cheap work first, safety when time is short, and an offer that keeps dying is worth nothing."""
    move = decide(now)
    assert isinstance(move, Move)
    assert (move.kind, move.offer) == expected


def test_a_move_waits_for_the_checkpoint_and_for_a_clear_gain() -> None:
    """A cheaper machine is taken right after a checkpoint, and not for cents."""
    here, cheaper = Offer("a", True, 0.5, lived=600), Offer("b", True, 0.3, lived=600)
    offers = (here, cheaper, Offer("steady", False, 1.0))
    assert decide(situation(here="a", offers=offers)).offer == "b"
    assert decide(situation(here="a", work_here=238, offers=offers)).kind == "stay"
    close = (here, replace(cheaper, price=0.49), Offer("steady", False, 1.0))
    assert decide(situation(here="a", offers=close)).kind == "stay"
    assert decide(situation(here="a", time_left=256, offers=offers)).kind == "stay"


def test_with_all_of_ours_dead_a_machine_ends_as_its_class_says() -> None:
    """The seller's own deadline always holds, the guest's unless it hangs, and without any it goes on."""
    server, guest, nobody = (orphans_of(kind, range(12)) for kind in ("server-deadline", "exit-ends", "none"))
    assert max(server.minutes) <= 1
    assert guest.median <= 1
    assert guest.left_running == sum(minutes > 1 for minutes in guest.minutes) >= 1, "a guest hung"
    assert nobody.left_running == len(nobody.minutes) == 12
