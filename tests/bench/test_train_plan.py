"""Test what the training bench plans, computes and writes, on made-up runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.gpu_parts.report import ladder_markdown
from bench.reporting import put_between
from bench.train_parts.clock import Clock, steady_seconds
from bench.train_parts.contend import Run
from bench.train_parts.crashes import CRASHES, EPOCHS
from bench.train_parts.figures import Rounds, case_figures, ratio_interval, target_of
from bench.train_parts.kills import Kill, Progress, Study, draw_moments
from bench.train_parts.plan import EVERY_THREAD, FINE_TUNE, OURS, PLAIN, Asked, plan_of
from bench.train_parts.report import KILLS, TRAIN, Results, kills_markdown, markdown
from bench.train_parts.survival import SIMULATED, Row, figures_of, row_of, told_of
from tests.bench.test_report import MACHINE
from tests.helpers import ROOT
from trainer.backend_job import BackendEvent

RUN = Run(40.0, 30.0, 60.0, 2, 1000.0, 0.0, 1200, 0.05, 5.0, 3.5, "weights.pt")


def rounds_of(plain_s: list[float], ours_s: list[float]) -> Rounds:
    """Make rounds in which the two took so long."""
    rounds = Rounds(FINE_TUNE)
    for plain, ours in zip(plain_s, ours_s, strict=True):
        rounds.runs.append({PLAIN: replace(RUN, total_s=plain), OURS: replace(RUN, total_s=ours)})
        rounds.maps.append({PLAIN: {"map50": 0.70}, OURS: {"map50": 0.72}})
    return rounds


def test_a_default_run_fits_into_twelve_minutes_and_a_quick_one_into_two() -> None:
    """The plan itself; rounds hold both contenders, in an order that the seed draws."""
    assert plan_of(Asked()).seconds() < 12 * 60
    assert plan_of(Asked(quick=True)).seconds() < 2 * 60
    plan = plan_of(Asked(rounds=20))
    orders = [plan.order(FINE_TUNE, number) for number in range(20)]
    assert all({PLAIN, OURS} <= set(order) for order in orders)
    assert {order.index(OURS) < order.index(PLAIN) for order in orders} == {True, False}
    assert sum(EVERY_THREAD in order for order in orders) == 5
    assert orders == [plan.order(FINE_TUNE, number) for number in range(20)]


def test_a_machine_that_becomes_slower_changes_no_ratio() -> None:
    """Rounds are drawn whole, so drift cancels; one round alone says that it covers nothing."""
    drift = np.linspace(1.0, 3.0, 6)
    told = ratio_interval([(40.0 * slow, 42.0 * slow) for slow in drift])
    assert (told.low, told.mid, told.high) == pytest.approx((1.05, 1.05, 1.05))
    assert ratio_interval([(40.0, 42.0)]).coverage == 0.0
    with pytest.raises(ValueError, match="at least one round"):
        ratio_interval([])


def test_the_bootstrap_covers_the_true_ratio_about_as_often_as_it_says() -> None:
    """Of 300 draws of ten noisy rounds about 95 % enclose the ratio; few rounds cover somewhat less."""
    random = np.random.default_rng(3)
    held = 0
    for _ in range(300):
        plain = random.normal(40.0, 2.0, 10)
        told = ratio_interval(list(zip(plain, 0.9 * random.normal(40.0, 2.0, 10), strict=True)))
        held += told.low <= 0.9 <= told.high
    assert held / 300 > 0.85


def test_on_processors_our_run_has_to_be_faster_and_on_a_card_not_much_slower() -> None:
    """The worse end of the interval decides, under the name that the target has."""
    slower = case_figures(rounds_of([40, 41, 42], [40.4, 41.4, 42.4]), cuda=False)
    name = "train.fine-tune.cpu_overhead"
    assert slower[name].mid == pytest.approx(0.01, abs=0.001)
    target = target_of(name)
    assert target is not None
    assert not target.is_met_by(slower[name])
    on_card = case_figures(rounds_of([40, 41, 42], [40.4, 41.4, 42.4]), cuda=True)
    allowed = target_of("train.overhead")
    assert allowed is not None
    assert allowed.is_met_by(on_card["train.overhead"])


def test_waits_and_validation_are_told_apart_from_training() -> None:
    """What plain training validates at its end is not held against it; waiting is the loader's time alone."""
    clock = Clock()
    for epoch in range(2):
        at = 10.0 * epoch
        clock.epoch_started(at)
        clock.batch_started(at + 1)
        clock.batch_ended(at + 4)
        clock.batch_started(at + 5)
        clock.batch_ended(at + 8)
        if epoch == 1:
            clock.aside_started(18.5)
            clock.aside_ended(19.5)
        clock.epoch_saved(at + 10)
    clock.aside_started(20.0)
    clock.aside_started(21.0)
    clock.aside_ended(22.0)
    clock.aside_ended(25.0)
    assert clock.wait_share == pytest.approx(4 / 16)
    assert steady_seconds(clock.epoch_ends) == pytest.approx(9.0)
    assert clock.uncounted == pytest.approx(6.0)
    with pytest.raises(ValueError, match="two epochs"):
        steady_seconds([1.0])


def test_moments_are_drawn_before_the_run_and_lie_within_it() -> None:
    """The same seed draws the same moments, in order; another seed draws others."""
    moments = draw_moments(0, 12, 10)
    assert moments == draw_moments(0, 12, 10) == sorted(moments)
    assert min(moments) >= 0.0
    assert max(moments) <= 12.0
    assert moments != draw_moments(1, 12, 10)


def test_progress_follows_events_and_never_passes_an_end_not_told() -> None:
    """An epoch, a checkpoint within one, a death before anything, and a resume in the middle."""
    progress = Progress(epoch_s=2.0, start_s=3.0, images=100)
    progress.heard(BackendEvent("started"), 0.0)
    assert progress.at(2.0) == 0.0
    assert progress.at(4.0) == pytest.approx(0.5)
    assert progress.at(50.0) == pytest.approx(0.999)
    progress.heard(BackendEvent("epoch", 1), 6.0)
    progress.heard(BackendEvent("checkpoint", 1, {"images": 60}), 7.0)
    assert progress.at(7.2) == pytest.approx(1.7)
    progress.died()
    assert progress.at(90.0) == pytest.approx(1.6)
    progress.heard(BackendEvent("started"), 100.0)
    progress.heard(BackendEvent("resumed", 1, {"images": 60}), 102.0)
    assert progress.at(102.2) == pytest.approx(1.7)


def test_the_crash_list_is_what_the_target_asks_for() -> None:
    """Twenty of different names, at least eight that die after the first epoch; all families that matter."""
    assert len(CRASHES) == len({crash.name for crash in CRASHES}) == 20
    assert sum(crash.after_first_epoch for crash in CRASHES) >= 8
    assert {crash.moment for crash in CRASHES} == {"forward", "loss", "optimizer", "validation"}
    assert all(0.0 < crash.share < 1.0 and crash.epoch <= EPOCHS for crash in CRASHES)
    families = {crash.start.removesuffix(".yaml")[:-1] for crash in CRASHES}
    assert families == {"yolov5", "yolov8", "yolov9", "yolov10", "yolo11", "yolo12", "yolo26"}


def test_only_what_plain_training_did_not_survive_counts() -> None:
    """A row that plain training survives proves nothing, and a simulated one never counts as a card's."""
    died = Row("a", "a card", "forward", 900.0, True, 0, "out of memory", True, 20, 130.0, 100.0, 20.0, [])
    lived = replace(died, plain_died=False)
    lost = replace(died, survived=False, planned_s=0.0)
    simulated = replace(died, on=SIMULATED, plain_died=None)
    assert died.ratio == pytest.approx(1.1)
    told = figures_of([died, lived, lost, simulated])
    assert (told["ladder.died"], told["ladder.survived"]) == (2, 1)
    assert told["ladder.time_ratio"] == pytest.approx(1.1)
    assert (told["ladder.simulated_rows"], told["ladder.simulated_survived"]) == (1, 1)
    assert row_of(told_of(died)) == died


def test_rows_of_a_card_and_simulated_ones_are_never_in_one_table() -> None:
    """A simulated row says what it is, and its table claims nothing about plain training or memory."""
    rung = {"rung": "batch", "epoch": 5, "changed": {"batch": [64, 32]}}
    row = Row("8n-640-later", "a card", "forward", 900.0, True, 4, "", True, 20, 130.0, 100.0, 20.0, [rung])
    simulated = replace(row, on=SIMULATED, plain_died=None)
    told = ladder_markdown([row])
    assert "ours finished 1 of these" in told
    assert (
        "| died after 4 epochs | finished 20 epochs | batch 64 → 32 at epoch 5 | 130 | 100 | 1.100 |" in told
    )
    apart = ladder_markdown([simulated])
    assert "not confirmed by a card: 1 of 1" in apart
    assert "died" not in apart
    with pytest.raises(ValueError, match="of 2 kinds"):
        ladder_markdown([row, simulated])


def test_reports_say_what_was_missed_and_fit_between_the_markers_of_the_document(tmp_path: Path) -> None:
    """A missed target is bold, both contenders' rows are there, and the shipped document has the markers."""
    rounds = rounds_of([40, 41], [44, 45])
    rounds.start_map = {"map50": 0.4}
    results = Results(MACHINE, "cpu", "drawn", [rounds], figures=case_figures(rounds, cuda=False))
    report = markdown(results)
    assert "| `train.fine-tune.cpu_overhead` | +9.9% |" in report
    assert "at most +0% | **no** |" in report
    assert "| **Whetstone** | 44.5" in report
    assert "| plain `YOLO.train()` | 40.5" in report
    kill = Kill(3.4, 3.41, 7, 3, 3.0, True)
    lost = replace(kill, asked=5.2, at=6.5, resumed=5.0, proven=False)
    study = Study(12, 4.0, 0.03, [3.4, 5.2], [kill, lost], False, 60.0, 150.0, 0.5, 0.494)
    told = kills_markdown(study, MACHINE)
    assert "| most lost by a kill, epochs | 1.50 | at most 1 | **no** |" in told
    assert "| 1 | 3.40 | 3.41 | 3.00 | 0.41 | yes |" in told
    assert "**not the same to the bit**" in told
    document = ROOT / "docs" / "benchmarks.md"
    copy = tmp_path / "benchmarks.md"
    copy.write_text(document.read_text())
    put_between(copy, TRAIN, report)
    put_between(copy, KILLS, told)
    assert report.strip() in copy.read_text()
    assert told.strip() in copy.read_text()
