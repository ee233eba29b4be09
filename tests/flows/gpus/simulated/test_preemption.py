"""When a machine is taken away, and what the cloud sells; pure."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from flows.gpus.simulated.cloud import TAKEN_AWAY, TERMINATED, Instance, Order
from flows.gpus.simulated.preemption import Moment
from flows.gpus.simulated.sale import Hardware, has_spot, is_to_be_taken, offers_of
from tests.flows.gpus.simulated.rig import section

NOW = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)
HARDWARE = Hardware(2, 4096, 9999)


def machine(why: str = "", *, region: str = "east", ago: float = 60.0) -> Instance:
    """Return a machine that ended some seconds ago."""
    at = NOW - timedelta(seconds=ago)
    order = Order(
        name="m", region=region, spot=True, price=0.16, ordered_at=at - timedelta(hours=1), until=NOW
    )
    return Instance(order, at, at if why else None, why)


@pytest.mark.parametrize(
    ("epochs", "looks", "when"),
    [
        (2.0, [(0, 0.0), (1, 5.0), (2, 10.0)], 10.0),
        (2.5, [(0, 0.0), (1, 5.0), (2, 10.0)], 12.5),
        (2.5, [(0, 0.0), (1, 5.0), (3, 10.0)], 10.0),
        (0.0, [(0, 3.0)], 3.0),
        (1.5, [(4, 3.0)], 3.0),
        (3.5, [(1, 0.0), (3, 8.0)], 10.0),
    ],
)
def test_moment_comes_when_so_much_is_uploaded(
    epochs: float, looks: list[tuple[int, float]], when: float
) -> None:
    """Never before the epochs are uploaded; a part of one by what the last took; at once where it was missed."""
    moment = Moment(epochs)
    for count, at in looks:
        assert not moment.has_come(at)
        moment.saw(count, at)
    if when > looks[-1][1]:
        assert not moment.has_come(when - 0.01)
    assert moment.has_come(when)


def test_looks_that_see_nothing_new_change_nothing() -> None:
    """However often it is looked, an epoch counts from when it was first seen."""
    moment = Moment(1.5)
    for count, at in ((0, 0.0), (1, 4.0), (1, 5.0), (1, 5.9)):
        moment.saw(count, at)
    assert not moment.has_come(5.9)
    assert moment.has_come(6.0)


def test_first_spot_machine_is_the_one() -> None:
    """On-demand machines are left alone, and after one was taken away all are."""
    taken = section(preempt_after_epochs=3)
    assert is_to_be_taken(taken, (machine(TERMINATED),), spot=True)
    assert not is_to_be_taken(taken, (), spot=False)
    assert not is_to_be_taken(taken, (machine(TAKEN_AWAY),), spot=True)
    assert not is_to_be_taken(section(), (), spot=True)


def test_spot_capacity_comes_back() -> None:
    """A region has no spot machines for as long as was set, and no other region suffers."""
    short = section(spot_back_seconds=100.0)
    gone = (machine(TAKEN_AWAY), machine(TERMINATED, region="west"))
    assert not has_spot("east", short, gone, NOW)
    assert has_spot("west", short, gone, NOW)
    assert has_spot("east", short, (machine(TAKEN_AWAY, ago=101.0),), NOW)


def test_offers_are_processors_at_a_price() -> None:
    """What is sold is what there is: this host's processor; each price says where and from when it is."""
    east, west = offers_of("cloud", section(), (machine(TAKEN_AWAY),), HARDWARE, NOW)
    assert (east.gpu, east.gpu_count, east.gpu_memory_mib, east.cpu_count) == ("cpu", 0, 0, 2)
    assert (east.spot_price, west.spot_price) == (None, 0.21)
    assert {(one.price_source, one.priced_at) for one in (east, west)} == {("simulated", NOW)}
    assert (east.region, west.offer_id) == ("east", "west")


def test_spot_above_on_demand_is_no_setting() -> None:
    """Prices that make no sense are refused when they are read."""
    with pytest.raises(ValueError, match="is above price"):
        section(regions=[{"name": "east", "price": 0.1, "spot_price": 0.2}])
