"""Test that the old model serves through every failure of an update, and that the failure is told."""

from __future__ import annotations

import errno
import threading
from pathlib import Path

import pytest

from edge_agent.ota.disk import Disk
from edge_agent.ota.errors import SelfTestBroken
from edge_agent.ota.self_test import SelfTestVerdict
from edge_agent.ota.slots import MAX_ATTEMPTS, MAX_STARTS
from tests.edge_agent.ota.ota_kit import World, make_world
from tests.helpers import wait_until


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


class FullDisk(Disk):
    """Be full until told otherwise."""

    def __init__(self) -> None:
        self.full = True
        self.fired = 0

    def sync(self, path: Path) -> None:
        if self.full:
            self.fired += 1
            raise OSError(errno.ENOSPC, "No space left on device")
        super().sync(path)


class CrashingSelfTest:
    """Be a self-test whose child always crashes."""

    def __init__(self) -> None:
        self.runs = 0

    def run(self, folder: Path) -> SelfTestVerdict:
        self.runs += 1
        raise SelfTestBroken(expected="a verdict", got="exit -11", where=str(folder))


def test_a_damaged_installed_model_is_never_loaded(world: World) -> None:
    """A torn model is found by its hash; the previous one serves, and the channel gives the torn one anew."""
    world.publish(1)
    box = world.box()
    box.update()
    world.publish(2)
    box.update()
    model = box.config.data_dir / "releases" / "000002" / "model.onnx"
    model.write_bytes(model.read_bytes()[:-100])
    again = world.box()
    again.updater.start()
    assert again.frames() == 1
    assert "000002" in again.updater.state().problem
    assert again.update().release_version == 2


def test_a_tampered_model_is_refused_and_the_old_one_serves(world: World) -> None:
    """What is not what was signed never reaches the engine; the report says which file."""
    world.publish(1)
    box = world.box()
    box.update()
    path = world.model_path(world.publish(2))
    content = bytearray(world.server.files[path])
    content[len(content) // 2] ^= 1
    world.server.files[path] = bytes(content)
    state = box.update()
    assert (state.release_version, state.state) == (1, "degraded")
    assert "model.onnx" in state.problem
    assert world.server.asked[path] == 1
    del world.server.files[path]
    assert box.update().release_version == 2


def test_expired_metadata_is_reported_and_the_box_keeps_serving(world: World) -> None:
    """A frozen channel shows in the report; the line goes on, and recovery needs nobody on site."""
    world.publish(1)
    box = world.box()
    box.update()
    world.fleet.clock.move(days=-30)
    world.fleet.repository.resign_timestamp()
    state = box.update()
    assert (state.release_version, state.state, state.metadata_expired) == (1, "degraded", True)
    world.fleet.clock.move(days=30)
    world.fleet.repository.resign_timestamp()
    state = box.update()
    assert (state.state, state.metadata_expired, state.problem) == ("serving", False, "")


def test_a_model_with_another_class_list_is_refused_and_reported(world: World) -> None:
    """The fleet's ids keep their meaning; the refusal is final for this release."""
    world.publish(1)
    box = world.box()
    box.update()
    # The channel's own rules would stop this, so the box is shown a release that slipped past them.
    release = world.publish(2, names=("scratch", "missing"), model_names=("missing", "scratch"))
    box.order(2)
    state = box.update()
    assert (state.release_version, state.state, state.rollout_id) == (1, "rolled_back", "roll-1")
    assert "missing" in state.problem
    asked = world.server.asked[world.model_path(release)]
    assert box.update().state == "rolled_back"
    assert world.server.asked[world.model_path(release)] == asked, "the same bytes are not tried for ever"


def test_a_refusal_is_remembered_over_a_restart(world: World) -> None:
    """A box that was switched off does not try the same bad release again."""
    world.publish(1)
    box = world.box()
    box.update()
    world.publish(2, model_names=("missing", "scratch"))
    box.update()
    again = world.box()
    again.updater.start()
    again.frames()
    state = again.update()
    assert (state.release_version, state.state) == (1, "rolled_back")
    assert "did not fail here before" in state.problem


def test_a_release_that_fails_on_the_line_is_taken_back(world: World) -> None:
    """The first bad frame brings the old model back; the release is not tried again."""
    world.publish(1)
    box = world.box()
    box.update()
    world.publish(2)
    box.order(2)
    box.updater.round(box.stop)
    assert box.updater.state().state == "updating"
    box.slot.take()
    box.slot.fail("EngineFailed: out of memory")
    box.updater.watch_trial()
    assert box.frames() == 1
    state = box.updater.state()
    assert (state.state, state.rollout_id, state.release_version) == ("rolled_back", "roll-1", 1)
    assert "out of memory" in state.problem
    assert box.update().state == "rolled_back"
    again = world.box()
    again.updater.start()
    assert again.frames() == 1


def test_what_has_not_proven_itself_is_nothing_to_go_back_to(world: World) -> None:
    """A release that overtakes one on trial falls back on the last one that was confirmed."""
    world.publish(1)
    box = world.box()
    box.update()
    for version in (2, 3):
        world.publish(version)
        box.updater.round(box.stop)
        box.slot.take()
    assert box.serving() == 3
    box.slot.fail("broken")
    box.updater.watch_trial()
    assert box.frames() == 1
    again = world.box()
    again.updater.start()
    assert again.frames() == 1


def test_a_release_that_names_another_file_than_was_signed_is_refused(world: World) -> None:
    """The release's word and the signature beside it must agree, before the file is fetched."""
    world.publish(1)
    box = world.box()
    box.update()
    world.publish(2)
    bucket = world.fleet.repository._bucket
    published = bucket.load()
    targets = bucket.read_channel("boards.stable", published)
    bucket.put_target(targets, "boards/stable/000002/model.onnx", b"signed, but not the one that was released")
    targets.version += 1
    bucket.put_channel("boards.stable", targets, published)
    bucket.point_to(published)
    state = box.update()
    assert (state.release_version, state.state) == (1, "rolled_back")
    assert "the signed file" in state.problem


def test_a_rollback_is_told_under_its_own_order_alone(world: World) -> None:
    """A new order starts clean: an old rollback must not end a rollout that never began."""
    world.publish(1)
    box = world.box()
    box.update()
    world.publish(2, model_names=("missing", "scratch"))
    box.order(2)
    assert box.update().state == "rolled_back"
    world.server.away = True
    box.order(1, "roll-2")
    box.updater.round(box.stop)
    state = box.updater.state()
    assert (state.rollout_id, state.state) == ("roll-2", "serving")


def test_a_refused_release_is_still_told_when_the_server_goes_away(world: World) -> None:
    """The cloud learns of a rollback though the line breaks right after it."""
    world.publish(1)
    box = world.box()
    box.update()
    world.publish(2, model_names=("missing", "scratch"))
    box.order(2)
    box.update()
    world.server.away = True
    assert box.update().state == "rolled_back"


def test_a_disk_without_room_keeps_the_old_model(world: World) -> None:
    """Whatever write fails, the box serves on, says so, and updates when there is room again."""
    world.publish(1)
    box = world.box()
    box.update()
    world.publish(2)
    disk = FullDisk()
    full = world.box(disk=disk)
    full.updater.start()
    full.frames()
    full.updater.round(full.stop)
    state = full.updater.state()
    assert disk.fired > 0
    assert (full.serving(), state.state) == (1, "serving")
    assert "disk" in state.problem
    disk.full = False
    assert full.update().release_version == 2


def test_an_unexpected_error_is_counted_and_the_thread_lives_on(world: World) -> None:
    """A bug in an update neither ends the thread nor the line."""
    world.publish(1)

    class Broken:
        def run(self, folder: Path) -> SelfTestVerdict:
            raise ZeroDivisionError

    box = world.box(self_test=Broken())
    thread = threading.Thread(target=box.updater.run, args=(box.stop,))
    thread.start()
    try:
        wait_until(lambda: box.events.count("ota.crashed") >= 2, 10, "a second attempt")
        assert "ZeroDivisionError" in box.updater.state().problem
    finally:
        box.stop.set()
        thread.join(5)


def test_a_release_that_ends_the_agent_is_left_behind(world: World) -> None:
    """Starts that never lead to a confirmation are counted before the model is touched."""
    world.publish(1)
    box = world.box()
    box.update()
    world.publish(2)
    box.updater.round(box.stop)
    for _ in range(MAX_STARTS):
        crashed = world.box()
        crashed.updater.start()
        crashed.slot.take()
        assert crashed.serving() == 2
    last = world.box()
    last.updater.start()
    assert last.frames() == 1
    assert last.update().state == "rolled_back"


def test_a_trial_goes_on_after_a_restart(world: World) -> None:
    """A release on trial is confirmed by the frames after the boot."""
    world.publish(1)
    box = world.box()
    box.updater.round(box.stop)
    again = world.box()
    again.updater.start()
    assert again.updater.state().state == "starting"
    again.slot.take()
    assert again.updater.state().state == "updating"
    again.frames()
    assert again.updater.state().state == "serving"


def test_a_crashing_self_test_is_tried_a_few_times_then_refused(world: World) -> None:
    """A busy box gets another chance; a model that always crashes does not."""
    world.publish(1)
    world.box().update()
    world.publish(2)
    test = CrashingSelfTest()
    box = world.box(self_test=test)
    box.updater.start()
    box.frames()
    states = [box.update().state for _ in range(MAX_ATTEMPTS + 2)]
    assert test.runs == MAX_ATTEMPTS
    assert states[0] == "serving"
    assert states[-1] == "rolled_back"
    assert box.serving() == 1
