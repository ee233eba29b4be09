"""Test that a box runs what the signed channel allows, by order or by itself, also after a restart."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path

import pytest

from edge_agent.errors import ConfigError
from fleet_contracts.base import utc_now
from fleet_contracts.releases import RolloutOrder
from tests.edge_agent.ota.ota_kit import CHANNEL, TASK, Box, World, build, config_for, make_world
from tests.helpers import wait_until


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


def test_without_an_order_a_box_takes_the_latest(world: World) -> None:
    """A box that joins later needs nobody to tell it what to run."""
    world.publish(1)
    box = world.box()
    assert box.updater.state().state == "starting"
    state = box.update()
    assert (state.release_version, state.state, state.problem) == (1, "serving", "")
    world.publish(2)
    assert box.update().release_version == 2


def test_an_empty_channel_is_waited_for(world: World) -> None:
    """Before the first release a box says what it waits for."""
    box = world.box()
    assert box.updater.round(box.stop) is False
    assert "no release yet" in box.updater.state().problem
    world.publish(1)
    assert box.update().release_version == 1


def test_an_order_chooses_among_the_allowed_releases(world: World) -> None:
    """An ordered box stays where it was told to, though the channel has something newer."""
    world.publish(1)
    box = world.box()
    box.order(1)
    box.update()
    world.publish(2)
    state = box.update()
    assert (state.release_version, state.rollout_id) == (1, "roll-1")
    box.order(2, "roll-2")
    assert (box.update().release_version, box.updater.state().rollout_id) == (2, "roll-2")


def test_an_order_cannot_bring_what_the_channel_does_not_allow(world: World) -> None:
    """The broker may hint, only signatures decide (law 7)."""
    world.publish(1)
    world.publish(2)
    box = world.box()
    box.update()
    world.fleet.repository.publish(*build(world.folder, 3), lowest_allowed=2)
    box.order(1)
    state = box.update()
    assert state.release_version == 2
    assert "release 1 was ordered" in state.problem


def test_an_order_survives_a_restart_and_an_older_one_is_ignored(world: World) -> None:
    """The box follows its last order even when the broker has forgotten it (law 1)."""
    world.publish(1)
    world.publish(2)
    box = world.box()
    box.order(1)
    assert box.update().release_version == 1
    again = world.box()
    again.updater.start()
    again.updater.on_order(RolloutOrder(task_id=TASK, device_id="box-a", rollout_id="old", channel=CHANNEL,
                                        release_version=2, issued_at=utc_now() - timedelta(days=1)))
    assert (again.update().release_version, again.updater.state().rollout_id) == (1, "roll-1")


def test_an_order_from_the_future_does_not_silence_the_next(world: World) -> None:
    """A wrong clock somewhere must not leave a box deaf until its date has come."""
    world.publish(1)
    world.publish(2)
    box = world.box()
    box.updater.on_order(RolloutOrder(task_id=TASK, device_id="box-a", rollout_id="early", channel=CHANNEL,
                                      release_version=1, issued_at=utc_now() + timedelta(days=400)))
    assert box.update().release_version == 1
    box.order(2, "now")
    assert (box.update().release_version, box.updater.state().rollout_id) == (2, "now")


def test_a_foreign_order_is_counted_and_ignored(world: World) -> None:
    """An order for another device or task changes nothing."""
    box = world.box()
    box.updater.on_order(RolloutOrder(task_id=TASK, device_id="box-b", rollout_id="x", channel=CHANNEL,
                                      release_version=1, issued_at=utc_now()))
    assert box.events.count("ota.foreign_order") == 1
    assert box.updater.state().rollout_id == ""


def test_after_a_boot_the_installed_release_serves_without_the_network(world: World) -> None:
    """A line starts in the morning though the server is away."""
    world.publish(1)
    world.box().update()
    world.server.away = True
    box = world.box()
    box.updater.start()
    assert box.frames() == 1
    assert box.updater.round(box.stop) is False
    state = box.updater.state()
    assert (state.state, state.release_version) == ("serving", 1)
    assert "away" in state.problem


def test_a_new_class_comes_with_its_rules_and_one_can_go_back(world: World) -> None:
    """List N+1 is taken, and returning to list N is legitimate."""
    world.publish(1)
    box = world.box()
    box.update()
    world.publish(2, names=("scratch", "missing", "stain"), list_version=2)
    assert box.update().release_version == 2
    box.order(1, "roll-back")
    state = box.update()
    assert (state.release_version, state.state) == (1, "serving")


def test_only_current_and_previous_are_kept(world: World) -> None:
    """The disk does not fill with old models, and going back needs no download."""
    box = world.box()
    for version in (1, 2, 3):
        release = world.publish(version)
        box.update()
    folder = box.config.data_dir / "releases"
    assert sorted(path.name for path in folder.iterdir() if path.name.isdigit()) == ["000002", "000003"]
    box.order(2)
    world.server.files[world.model_path(release).replace("000003", "000002")] = b"not asked for"
    assert box.update().release_version == 2


def test_a_withdrawn_release_is_left(world: World) -> None:
    """What the channel no longer allows stops serving without an order."""
    world.publish(1)
    world.publish(2)
    box = world.box()
    assert box.update().release_version == 2
    world.fleet.repository.withdraw(TASK, CHANNEL, 2)
    assert box.update().release_version == 1


def test_the_thread_follows_orders_and_stops(world: World) -> None:
    """An order wakes the thread; stopping it takes no longer than a moment."""
    world.publish(1)
    box = world.box()
    thread = threading.Thread(target=box.updater.run, args=(box.stop,))
    thread.start()
    line = threading.Thread(target=_line, args=(box, box.stop))
    line.start()
    try:
        wait_until(lambda: box.updater.state().state == "serving", 10, "the first release")
        world.publish(2)
        box.order(2)
        wait_until(lambda: box.updater.state().release_version == 2, 10, "the ordered release")
        wait_until(lambda: box.updater.state().state == "serving", 10, "its confirmation")
    finally:
        box.stop.set()
        thread.join(5)
        line.join(5)
    assert not thread.is_alive()


def _line(box: Box, stop: threading.Event) -> None:
    while not stop.wait(0.01):
        if box.slot.take() is not None or box.slot.current() is not None:
            box.slot.note_good_frame()


def test_an_unreadable_root_is_an_error_of_the_configuration(tmp_path: Path, world: World) -> None:
    """A box without an anchor of trust does not start, and says which file it wants."""
    box = world.box()
    config = config_for(tmp_path / "other", b"")
    config.releases.root_file.unlink()
    with pytest.raises(ConfigError, match=r"root\.json"):
        Box(config, box.parts)
