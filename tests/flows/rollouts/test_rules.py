"""Test how a rollout moves by what its devices report."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from fleet_contracts.base import decode
from fleet_contracts.releases import DeviceReport, Rollout, RolloutOrder
from flows.ingest.link import MemoryLink
from flows.rollouts.orders import publish_orders
from flows.rollouts.rules import advance, give_up, going_back, missing_devices, orders_of, start_rollout
from tests.flows.releases.release_kit import TASK, make_release

T0 = datetime(2026, 5, 2, 8, tzinfo=timezone.utc)
LATER = T0 + timedelta(minutes=5)
RELEASE, _ = make_release(7)


def rollout(*devices: str) -> Rollout:
    return start_rollout("roll-1", RELEASE, devices or ("box-a", "box-b"), T0)


def report(device: str, **changes: object) -> DeviceReport:
    base = DeviceReport(task_id=TASK, device_id=device, reported_at=LATER, agent_version="0.1.0",
                        state="serving", release_version=7, model_id=RELEASE.model_id, rollout_id="roll-1")
    return base.model_copy(update=changes)


def test_done_when_every_device_serves() -> None:
    """A rollout ends as done only when all listed devices serve the very model."""
    one = advance(rollout(), [report("box-a")], LATER)
    assert one.state == "rolling"
    assert missing_devices(one, [report("box-a")]) == ("box-b",)
    both = advance(one, [report("box-a"), report("box-b", state="degraded")], LATER)
    assert (both.state, both.ended_at) == ("done", LATER)


@pytest.mark.parametrize("changes", [
    {"release_version": 6},                 # still the old one
    {"model_id": "0" * 64},                 # another model under that version
    {"state": "updating"},                  # on trial
    {"state": "offline"},                   # its last will
    {"task_id": "cables"},                  # a report of another task
])
def test_not_done_while_a_device_serves_something_else(changes: dict[str, object]) -> None:
    """Only the release itself, serving, counts."""
    assert advance(rollout("box-a"), [report("box-a", **changes)], LATER).state == "rolling"


def test_one_device_that_rolls_back_ends_it_with_its_reason() -> None:
    """The reason a person reads later is the device's own."""
    failed = report("box-b", state="rolled_back", release_version=6, problem="self-test: class 1 not found")
    ended = advance(rollout(), [report("box-a"), failed], LATER)
    assert ended.state == "rolled_back"
    assert "box-b" in ended.reason
    assert "class 1 not found" in ended.reason


def test_a_rollback_of_an_earlier_rollout_does_not_count() -> None:
    """A retained old report cannot end a new rollout."""
    old = report("box-b", state="rolled_back", rollout_id="roll-0")
    assert advance(rollout(), [report("box-a"), old], LATER).state == "rolling"


def test_only_the_latest_report_of_a_device_counts() -> None:
    """Reports may arrive out of order."""
    late = report("box-a", reported_at=T0, state="rolled_back")
    assert advance(rollout("box-a"), [report("box-a"), late], LATER).state == "done"


def test_an_ended_rollout_never_changes() -> None:
    """Neither later reports nor giving up rewrite how it ended."""
    done = advance(rollout("box-a"), [report("box-a")], LATER)
    assert advance(done, [report("box-a", state="rolled_back")], LATER + timedelta(1)) == done
    assert give_up(done, "deadline", LATER) == done
    assert give_up(rollout(), "deadline", LATER).state == "failed"


def test_without_devices_there_is_nothing_to_wait_for() -> None:
    """A first release before any box is done at once and says so."""
    empty = start_rollout("roll-1", RELEASE, (), T0)
    assert empty.state == "done"
    assert "no device" in empty.reason


def test_orders_are_retained_and_the_same_each_time() -> None:
    """Publishing again is harmless, so it is done from time to time."""
    link = MemoryLink()
    assert publish_orders(link, rollout()) == 2
    before = dict(link.retained)
    publish_orders(link, rollout())
    assert link.retained == before
    topic, payload = next(iter(before.items()))
    order = decode(RolloutOrder, payload, where=topic)
    assert topic == "whetstone/v1/boards/down/box-a/order"
    assert (order.release_version, order.rollout_id, order.issued_at) == (7, "roll-1", T0)


def test_going_back_orders_all_devices_to_the_older_release() -> None:
    """The way back is a rollout of its own, newer than the one it ends."""
    older, _ = make_release(6)
    back = going_back(rollout(), older, LATER)
    assert back.devices == ("box-a", "box-b")
    assert {order.release_version for order in orders_of(back)} == {6}
    assert back.rollout_id != "roll-1"
