"""Test what becomes of a frame once every rule was asked."""

from __future__ import annotations

import tracemalloc
from datetime import timedelta

import numpy as np
import pytest

from edge_agent.config import MiningConfig
from edge_agent.counters import Counters
from edge_agent.events import Events
from edge_agent.mining import Miner, MinerParts, NothingSeen, miner_of
from edge_agent.mining.budget import Budget, BudgetLimits, day_name
from edge_agent.mining.looks import LookLimits, RecentLooks
from edge_agent.mining.rarity import Flagged
from edge_agent.mining.verdict import OUTCOMES, counts_of, rules_of
from fleet_contracts.base import utc_now
from fleet_contracts.messages import CaptureCommand
from tests.edge_agent.mining.frames import DIMENSIONS, found, reference, seen


def miner(limits: BudgetLimits | None = None, **more: object) -> Miner:
    """Build a miner that finds empty and flagged frames hard."""
    now = more.pop("now", [0.0])
    budget = Budget(
        limits or BudgetLimits(), clock=lambda: now[0], bytes_today=more.pop("bytes_today", lambda: 0)
    )  # type: ignore[index, arg-type]
    return Miner([Flagged(), NothingSeen(0.2)], MinerParts(budget=budget, **more))  # type: ignore[arg-type]


def command(frames: int = 2, **more: object) -> CaptureCommand:
    """Build a command for the next frames."""
    return CaptureCommand.model_validate(
        {"task_id": "boards", "device_id": "box-1", "command_id": "c-1", "frames": frames, "asked_by": "test",
         "expires_at": utc_now() + timedelta(minutes=5), **more}
    )  # fmt: skip


def rules(reasons: tuple) -> list[str]:
    return [reason.rule for reason in reasons]


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def test_the_hourly_limit_holds_and_ends() -> None:
    """A model that finds everything hard does not fill disk and network."""
    now = [0.0]
    limited = miner(BudgetLimits(per_hour=3), now=now)
    kept = 0
    for minute in range(10):
        now[0] = minute * 60.0
        kept += bool(limited.reasons_to_keep(seen(found())))
    assert (kept, limited.over_limit) == (3, 7)
    assert limited.outcomes == {"kept": 3, "over-hour": 7}
    now[0] = 3600.0
    assert limited.reasons_to_keep(seen(found()))


def test_a_capture_is_kept_whatever_the_frame_shows() -> None:
    """Capture commands are not limited, come first among the reasons, and end after their number."""
    limited = miner(BudgetLimits(per_hour=1))
    assert limited.reasons_to_keep(seen(found()))
    limited.campaigns.start(command(2))
    assert rules(limited.reasons_to_keep(seen(found()))) == ["capture", "nothing-seen"]
    assert rules(limited.reasons_to_keep(seen(found((0.9, 0))))) == ["capture"]
    assert limited.reasons_to_keep(seen(found((0.9, 0)))) == ()
    assert limited.outcomes == {"kept": 1, "asked": 2}


def test_a_flagged_part_is_kept_over_budget_and_though_it_looks_known() -> None:
    """What an operator or PLC points at is worth more than any limit of frames."""
    limited = miner(BudgetLimits(per_hour=1), looks=RecentLooks(LookLimits()))
    assert limited.reasons_to_keep(seen(found(), image=picture(1)))
    assert rules(limited.reasons_to_keep(seen(found(), image=picture(1), flag="odd noise"))) == [
        "flag",
        "nothing-seen",
    ]
    assert limited.reasons_to_keep(seen(found(), image=picture(2))) == ()
    assert limited.outcomes == {"kept": 1, "asked": 1, "over-hour": 1}


def test_no_frame_is_kept_beyond_the_days_bytes() -> None:
    """The line to the cloud is what it is: captures and flags wait for tomorrow, and stay asked for."""
    full = [True]
    limited = miner(BudgetLimits(bytes_per_day=100), bytes_today=lambda: 100 if full[0] else 0)
    limited.campaigns.start(command(1))
    assert limited.reasons_to_keep(seen(found())) == ()
    assert limited.reasons_to_keep(seen(found(), flag="odd")) == ()
    assert limited.outcomes == {"over-bytes": 2}
    full[0] = False
    assert rules(limited.reasons_to_keep(seen(found((0.9, 0))))) == ["capture"]


def test_a_near_duplicate_takes_nothing_from_the_budget() -> None:
    """The same picture again is dropped before it is counted against the hour."""
    limited = miner(BudgetLimits(per_hour=2), looks=RecentLooks(LookLimits()))
    assert limited.reasons_to_keep(seen(found(), image=picture(1)))
    assert limited.reasons_to_keep(seen(found(), image=picture(1))) == ()
    assert limited.reasons_to_keep(seen(found(), image=picture(2)))
    assert limited.reasons_to_keep(seen(found(), image=picture(3))) == ()
    # What the budget let go was not kept, so it is no duplicate either.
    assert limited.reasons_to_keep(seen(found(), image=picture(3))) == ()
    assert limited.outcomes == {"kept": 2, "duplicate": 1, "over-hour": 2}


def test_a_hard_frame_allocates_nothing_large_on_the_loops_thread() -> None:
    """Every rule on, five hundred looks remembered, vectors all alike: less than 64 kB for a 1080p frame."""
    usual = miner_of(MiningConfig(max_per_hour=0))
    vector = np.ones(256, np.float32)
    for seed in range(512):
        usual.reasons_to_keep(seen(found(), part=f"p{seed}", image=picture(seed), features=vector))
    frames = [np.tile(picture(number), (23, 30, 1))[:1080, :1920] for number in range(600, 604)]
    peaks = []
    tracemalloc.start()
    try:
        for number in (0, 1, 0, 2, 1, 3):
            frame = seen(found(), part=f"q{number}", image=frames[number], features=vector)
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            usual.reasons_to_keep(frame)
            peaks.append(tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()
    assert usual.outcomes["duplicate"] >= 2
    assert max(peaks) < 64 * 1024


def test_frames_without_an_image_are_never_duplicates() -> None:
    """What has no look is kept: a frame dropped by mistake is gone for good."""
    limited = miner(looks=RecentLooks(LookLimits()))
    assert limited.reasons_to_keep(seen(found()))
    assert limited.reasons_to_keep(seen(found()))


def test_the_configuration_chooses_the_rules() -> None:
    """Rules that are switched off keep nothing; the first reason names the example."""
    quiet = miner_of(MiningConfig(low=0.2, high=0.6, nothing_seen=False, random_share=0.0))
    assert quiet.reasons_to_keep(seen(found())) == ()
    assert rules(quiet.reasons_to_keep(seen(found((0.5, 0)), part="part-2"))) == ["uncertain"]
    loud = miner_of(MiningConfig(random_share=1.0))
    assert rules(loud.reasons_to_keep(seen(found()))) == ["nothing-seen", "random"]
    off = MiningConfig(
        class_margin=0, mixed_overlap=0, vanished=False, flicker=0, novelty=0, rare_share=0, nothing_seen=False,
        random_share=0,
    )  # fmt: skip
    assert [type(rule).__name__ for rule in rules_of(off)] == ["Flagged", "UncertainScore"]
    assert len(rules_of(MiningConfig())) == 10


def test_the_frames_of_a_part_are_held_against_each_other() -> None:
    """What was there and is gone, or jumps, is hard; a finished part leaves no trace."""
    both = miner_of(MiningConfig(low=0.2, high=0.6, nothing_seen=False, random_share=0.0))
    assert both.reasons_to_keep(seen(found((0.9, 0)))) == ()
    assert rules(both.reasons_to_keep(seen(found()))) == ["vanished", "flicker"]
    both.part_done("part-1")
    assert both.reasons_to_keep(seen(found())) == ()


def test_the_days_bytes_of_before_a_restart_count() -> None:
    """The limit reads what the outbox stored with each example."""
    counters = Counters({day_name(utc_now()): 2_000_000})
    limited = miner_of(MiningConfig(max_mb_per_day=2.0), counters)
    assert limited.reasons_to_keep(seen(found())) == ()
    assert limited.outcomes == {"over-bytes": 1}


def test_a_model_without_a_reference_is_told_once() -> None:
    """Novelty is silent then, and whoever reads the log knows why."""
    events = Events()
    one = miner_of(MiningConfig(nothing_seen=False, random_share=0.0), None, events)
    vector = np.full(DIMENSIONS, 9.0, np.float32)
    for _ in range(3):
        assert one.reasons_to_keep(seen(found(), features=vector)) == ()
    assert events.count("mining.novelty-off") == 1
    assert rules(one.reasons_to_keep(seen(found(), features=vector, reference=reference()))) == ["novelty"]


@pytest.mark.parametrize("part", ["part-1", "never-seen"])
def test_finishing_a_part_twice_is_no_error(part: str) -> None:
    """The loop may flush a part it has flushed."""
    one = miner()
    one.reasons_to_keep(seen(found()))
    one.part_done(part)
    one.part_done(part)


def test_every_outcome_has_a_count_that_an_exporter_reads() -> None:
    """A scrape sees what became of hard frames, also of those that were let go."""
    limited = miner(BudgetLimits(per_hour=1))
    counts = counts_of(limited)
    assert len(counts) == len(OUTCOMES)
    for _ in range(3):
        limited.reasons_to_keep(seen(found()))
    assert set(limited.outcomes) <= set(OUTCOMES)
    assert counts["whetstone_mining_kept"][1]() == 1
    assert counts["whetstone_mining_over_hour"][1]() == 2
    assert counts["whetstone_mining_duplicate"][1]() == 0
