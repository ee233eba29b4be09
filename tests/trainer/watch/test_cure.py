"""Choose cures within limits, and never for ever."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_contracts.base import utc_now
from fleet_contracts.training import RunEvent, WatchPolicy
from tests.trainer.watch.scenes import GIB, LIMITS, SETTINGS
from trainer.watch.carry import workers_after
from trainer.watch.cure import Advice, LoaderSettings, Treatment, Ward, advise, measured
from trainer.watch.diagnose import Diagnosis

POLICY = WatchPolicy()


def advice(kind: str, now: LoaderSettings = SETTINGS, policy: WatchPolicy = POLICY, **limits: Any) -> Advice:
    """Return what is advised for a diagnosis."""
    return advise(Diagnosis(kind, "seen"), Ward(now, replace(LIMITS, **limits), policy))  # type: ignore[arg-type]


ROWS: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ("loader", {}, {}, {"workers": 4}),
    ("loader", {"workers": 0}, {}, {"workers": 2}),
    ("loader", {"workers": 6}, {}, {"workers": 8}),
    ("loader", {}, {"cores": 3.0}, {"workers": 3}),
    ("loader", {}, {"host_free_bytes": 1 * GIB, "dataset_ram_bytes": 1}, {"workers": 3}),
    ("loader", {"workers": 8}, {}, {"cache": "ram"}),
    ("loader", {"workers": 8}, {"dataset_ram_bytes": 60 * GIB}, {"cache": "disk"}),
    ("loader", {}, {"shared_free_bytes": 0}, {"cache": "ram"}),
    ("disk", {}, {}, {"cache": "ram"}),
    ("disk", {"cache": "disk"}, {}, {"cache": "ram"}),
    ("disk", {"cache": "ram"}, {}, {"workers": 4}),
    ("cpu-augmentation", {}, {}, {"cache": "ram"}),
    ("small-batch", {}, {}, {"batch": 16, "accumulation": 2}),
]


@pytest.mark.parametrize(("kind", "now", "limits", "changed"), ROWS)
def test_a_diagnosis_has_its_cure(
    kind: str, now: dict[str, Any], limits: dict[str, Any], changed: dict[str, Any]
) -> None:
    """Each cure changes what its diagnosis names, as far as the machine allows, and nothing else."""
    before = replace(SETTINGS, **now)
    cure = advice(kind, before, **limits).cure
    assert cure is not None
    assert cure.settings == replace(before, **changed)
    assert kind in cure.why


REFUSED: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("small-batch", {"accumulation": 1}, {}, "cannot grow and stay the recipe's"),
    ("small-batch", {"accumulation": 3}, {}, "cannot grow and stay the recipe's"),
    ("small-batch", {}, {"gpu_needed_bytes": 12 * GIB}, "more than the card has room for"),
    ("cpu-augmentation", {"cache": "ram"}, {}, "in memory already"),
    ("loader", {"workers": 8, "cache": "ram"}, {}, "cores allows no more than 8"),
    ("cpu-augmentation", {}, {"dataset_ram_bytes": 90 * GIB, "disk_free_bytes": 0}, "do not fit"),
    ("fine", {}, {}, "nothing to cure"),
    ("memory-near-limit", {}, {}, "the memory ladder's matter"),
]


@pytest.mark.parametrize(("kind", "now", "limits", "why"), REFUSED)
def test_no_cure_says_why(kind: str, now: dict[str, Any], limits: dict[str, Any], why: str) -> None:
    """Where the machine or the recipe leaves no room, the reason is told."""
    given_ = advice(kind, replace(SETTINGS, **now), **limits)
    assert given_.cure is None
    assert why in given_.why


def test_the_plan_has_the_last_word() -> None:
    """Workers, cache and batch stay within what the plan allows."""
    strict = WatchPolicy(most_workers=2, allow_cache=False, allow_batch=False)
    assert "the plan allows no more than 2" in advice("loader", policy=strict).why
    assert "no other image cache" in advice("disk", policy=strict).why
    assert advice("small-batch", policy=strict).why == "the plan allows no other batch"
    assert "as many as the plan allows" in advice("loader", policy=WatchPolicy(most_cures=0)).why


def test_what_harmed_is_undone_once_and_not_tried_again() -> None:
    """A change that lowered the rate is taken back; the next diagnosis of that kind gets another lever."""
    more = replace(SETTINGS, workers=4)
    harmed = Treatment("workers", SETTINGS, more, 100.0, 80.0)
    ward = Ward(more, LIMITS, POLICY, (harmed,))
    undo = advise(Diagnosis("fine", ""), ward).cure
    assert undo is not None
    assert (undo.settings, undo.lever) == (SETTINGS, "undo")
    assert "100.0 images/s before, 80.0 after" in undo.why
    history = (harmed, Treatment("undo", more, SETTINGS, 80.0, 60.0))
    after = advise(Diagnosis("loader", ""), Ward(SETTINGS, LIMITS, POLICY, history)).cure
    assert after is not None
    assert after.settings == replace(SETTINGS, cache="ram")


def test_what_did_not_help_stays_but_is_not_repeated() -> None:
    """A change without effect is kept, and its lever is not pulled again."""
    more = replace(SETTINGS, workers=4, cache="ram")
    history = measured((Treatment("workers", replace(more, workers=2), more, 100.0),), 101.0)
    given_ = advise(Diagnosis("loader", ""), Ward(more, LIMITS, POLICY, history))
    assert given_.cure is None
    assert "did not help" in given_.why
    assert measured(history, 5.0) == history


def test_later_stages_load_as_the_last_cure_of_earlier_ones_did() -> None:
    """The machine's lesson is not learnt anew in every stage; a stage's own events say nothing about itself."""

    def event(stage: int, cure: dict[str, Any] | None) -> RunEvent:
        return RunEvent(task_id="line-a", run_id="run-" + "0" * 16, number=0, at=utc_now(), kind="watch",
                        data={"stage": stage, "cure": cure})  # fmt: skip

    events = [
        event(0, {"workers": [0, 2]}),
        event(0, None),
        event(0, {"workers": [2, 4]}),
        event(0, {"cache": ["none", "ram"]}),
        event(1, {"workers": [4, 2]}),
    ]
    assert [workers_after(events, stage, 0) for stage in range(3)] == [0, 4, 2]
    assert workers_after([], 2, 3) == 3


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_cures_always_end(data: st.DataObject) -> None:
    """Whatever is diagnosed and whatever comes of each cure, a run is changed a bounded number of times."""
    policy = WatchPolicy(most_cures=data.draw(st.integers(0, 30)))
    now = LoaderSettings(data.draw(st.integers(0, 4)), "none", 4, 8)
    limits = replace(LIMITS, cores=64.0, gpu_needed_bytes=1)
    history: tuple[Treatment, ...] = ()
    kinds = st.sampled_from(
        ["loader", "disk", "cpu-augmentation", "small-batch", "fine", "memory-near-limit"]
    )
    visited = [now]
    for _ in range(60):
        rate = data.draw(st.floats(1.0, 100.0))
        history = measured(history, rate)
        cure = advise(Diagnosis(data.draw(kinds), ""), Ward(now, limits, policy, history)).cure
        if cure is None:
            continue
        assert cure.batch * cure.accumulation == 32
        assert cure.lever == "undo" or cure.settings not in visited
        history = (*history, Treatment(cure.lever, now, cure.settings, rate))
        now = cure.settings
        visited.append(now)
    assert len(history) <= 2 * min(policy.most_cures, 7 + 2 + 3)
    assert all(not (one.lever == two.lever == "undo") for one, two in zip(history, history[1:], strict=False))
