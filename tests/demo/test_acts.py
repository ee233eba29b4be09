"""Which act the demo is in is decided from what was looked at, and from nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from demo.loop.acts import Floor, act_of, is_served, needs_class, order_of
from demo.loop.glance import CandidateGlance, Glance, RunGlance
from demo.loop.settings import LoopSettings
from demo.loop.state import DemoState
from fleet_contracts import utc_now
from fleet_contracts.releases import DeviceReport, SwapReport

SETTINGS = LoopSettings()
PLENTY = Floor(dict.fromkeys(SETTINGS.devices, SETTINGS.paces.known_parts))
BEGUN = DemoState(kind="line", base_version=1)
CHANGED = BEGUN.model_copy(update={"changed_at": utc_now()})


def _report(device: str, version: int, *, swapped: bool = False) -> DeviceReport:
    swap = SwapReport(from_version=1, to_version=version, swapped_at=utc_now(), gap_ms=1.0, frames_dropped=0)
    return DeviceReport(
        task_id="boards", device_id=device, reported_at=utc_now(), agent_version="0.1.0", state="serving",
        release_version=version, last_swap=swap if swapped else None,
    )  # fmt: skip


def _devices(*versions: int, swapped: bool = False) -> dict[str, DeviceReport]:
    pairs = zip(SETTINGS.devices, versions, strict=True)
    return {device: _report(device, version, swapped=swapped) for device, version in pairs}


SERVED = Glance(
    devices=_devices(2, 2, swapped=True),
    run=RunGlance("run-0000000000000000", "finished"),
    candidate=CandidateGlance("run-0000000000000000", "a" * 64, "promoted", 2, {}),
    rollout_state="done",
)


def test_begins_with_known_parts() -> None:
    """Nothing changes before every line has made its share of known parts."""
    some = Floor({"box-a": SETTINGS.paces.known_parts, "box-b": 1})
    assert act_of(SETTINGS, BEGUN, Glance(), Floor({"box-a": 0, "box-b": 0})) == "known"
    assert act_of(SETTINGS, BEGUN, Glance(), some) == "known"
    assert act_of(SETTINGS, BEGUN, Glance(), PLENTY) == "changed"


def test_a_line_that_changed_never_changes_back() -> None:
    """A demo that goes on after a kill does not begin again, even if the lines' folders were emptied."""
    assert act_of(SETTINGS, CHANGED, Glance(), Floor({})) == "changed"


def test_training_slows_the_line() -> None:
    """Once enough is labelled, or a run is at work, the cores belong to the training."""
    for glance in (Glance(trigger_new=SETTINGS.training.threshold), Glance(run=RunGlance("r", "active"))):
        act = act_of(SETTINGS, CHANGED, glance, PLENTY)
        assert act == "training"
        assert order_of(SETTINGS, act).parts_per_second == SETTINGS.paces.training
        assert order_of(SETTINGS, act).mix == "changed"


@pytest.mark.parametrize("state", ["refused", "failed"])
def test_a_run_turned_down_brings_the_line_back(state: str) -> None:
    """After a refusal the line and the labeller work on, since only other data can lead to another verdict."""
    glance = Glance(trigger_new=SETTINGS.training.threshold, run=RunGlance("r", state))
    assert act_of(SETTINGS, CHANGED, glance, PLENTY) == "changed"


def test_served_means_every_box() -> None:
    """One box on the new release is not enough, nor are both on the one they began with."""
    assert not is_served(SETTINGS, CHANGED, Glance(devices=_devices(2, 1)))
    assert not is_served(SETTINGS, CHANGED, Glance(devices=_devices(1, 1)))
    assert is_served(SETTINGS, CHANGED, Glance(devices=_devices(2, 2)))


@pytest.mark.parametrize(
    "glance",
    [
        replace(SERVED, rollout_state="rolling"),
        replace(SERVED, devices=_devices(2, 2, swapped=False)),
        replace(SERVED, candidate=None),
    ],
)
def test_lines_run_until_the_swap_is_told_of(glance: Glance) -> None:
    """The demo is over only when the swap was reported, the rollout closed and the candidate promoted."""
    assert act_of(SETTINGS, CHANGED, glance, PLENTY) == "settling"
    assert act_of(SETTINGS, CHANGED, SERVED, PLENTY) == "done"
    assert order_of(SETTINGS, "done").stop


def test_class_is_asked_for_once_enough_has_no_name() -> None:
    """The operator adds the class when enough parts were set aside, and only if the list lacks it."""
    enough = replace(PLENTY, set_aside=SETTINGS.stains_before_class)
    assert not needs_class(SETTINGS, Glance(classes=("scratch",)), PLENTY)
    assert needs_class(SETTINGS, Glance(classes=("scratch",)), enough)
    assert not needs_class(SETTINGS, Glance(classes=("scratch", SETTINGS.new_class)), enough)
