"""The report: a page that reads without a network, pictures that exist, and figures for machines."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from demo.report.curve import FILE_NAME, draw_run
from demo.report.page import Page, Picture, Table, write_page
from demo.report.pictures import Compared, choose_most_changed, write_side_by_side
from demo.report.summary import write_summary
from demo.report.training import training_tables
from detection import Detections
from detection.metrics.matching import GroundTruth
from fleet_contracts.judging import GateReport
from fleet_contracts.training import RunRecord, TrainPlan, VramEstimate
from flows.tracking.story import Story
from tests.fleet_contracts.examples import examples

BOX = np.array([[20, 20, 60, 60]], np.float32)
TRUTH = GroundTruth(BOX, np.array([0]), 2)
FOUND = Detections(BOX, np.array([0.8], np.float32), np.array([0]))


def _compared(name: str, before: Detections, after: Detections) -> Compared:
    return Compared(name, np.full((100, 120, 3), 90, np.uint8), TRUTH, before, after)


def test_summary_is_flat_with_machine_and_date(tmp_path: Path) -> None:
    """The figures stand under their own names, beside machine and date."""
    content = json.loads(write_summary(tmp_path, {"demo.seconds": 12.5}).read_text())
    assert content["demo.seconds"] == 12.5
    assert set(content) == {"demo.seconds", "machine", "date"}
    assert "cores" in content["machine"]


def test_most_changed_are_missed_then_found() -> None:
    """Pictures show what was missed and is found; what got worse or stayed is not among them."""
    gained = _compared("gained", Detections.empty(), FOUND)
    lost = _compared("lost", FOUND, Detections.empty())
    same = _compared("same", FOUND, FOUND)
    assert [one.name for one in choose_most_changed([lost, same, gained], 5)] == ["gained"]


def test_side_by_side_has_a_row_a_part(tmp_path: Path) -> None:
    """Three panels a part; without any part there is a picture that says so."""
    one = _compared("a part", Detections.empty(), FOUND)
    sheet = cv2.imread(str(write_side_by_side(tmp_path / "two.png", [one, one], ("open", "short"))))
    single = cv2.imread(str(write_side_by_side(tmp_path / "one.png", [one], ("open", "short"))))
    none = cv2.imread(str(write_side_by_side(tmp_path / "none.png", [], ("open", "short"))))
    assert sheet is not None
    assert single is not None
    assert none is not None
    assert sheet.shape[0] == 2 * single.shape[0]
    assert sheet.shape[1] == none.shape[1]
    # The box found stands in the last panel and not in the middle one.
    third = single.shape[1] // 3
    assert np.abs(single[:, third : 2 * third].astype(int) - single[:, 2 * third :].astype(int)).max() > 50


def test_the_run_is_drawn_if_it_left_an_epoch(tmp_path: Path) -> None:
    """The picture is that of `whetstone runs plot`; without an epoch there is none."""
    known = examples()
    record = known["run_record_with_incidents.v1"]
    assert isinstance(record, RunRecord)
    story = Story("pcb", record.run_id, record=record)
    assert draw_run(tmp_path, story)
    assert cv2.imread(str(tmp_path / FILE_NAME)) is not None
    assert not draw_run(tmp_path / "none", Story("pcb", record.run_id))


def test_page_escapes_and_links(tmp_path: Path) -> None:
    """What is told is escaped, and pictures are read from beside the page."""
    table = Table("Recall", ("kind", "after"), (("scratch & <cut>", "0.9"),))
    text = write_page(tmp_path, Page("Demo", ("truth played the labeller",), (table,),
                                     (Picture("curve.png", "the curve"),))).read_text()  # fmt: skip
    assert "scratch &amp; &lt;cut&gt;" in text
    assert 'src="curve.png"' in text
    assert "truth played the labeller" in text
    assert "http" not in text


def test_training_tables_tell_what_was_weighed_predicted_and_judged() -> None:
    """The chosen machine comes first, a guess of memory is marked as one, and each format has its verdict."""
    known = examples()
    plan, record = known["train_plan_that_explains_itself.v1"], known["run_record_with_incidents.v1"]
    gate = known["gate_report_on_two_formats.v1"]
    assert isinstance(plan, TrainPlan)
    assert isinstance(record, RunRecord)
    assert isinstance(gate, GateReport)
    guessed = plan.model_copy(update={"vram": VramEstimate(terms={}, peak_bytes=2**20, moment="backward")})
    rung = record.rungs[0]
    rung = rung.model_copy(update={"data": {**rung.data, "changed": {"batch": [8, 4]}}})
    record = record.model_copy(update={"rungs": (rung,)})
    weighed, run, incidents, formats = training_tables(guessed, record, gate)
    assert weighed.rows[0][0] == "1 x T4"
    assert weighed.rows[0][-1].startswith("chosen")
    assert ("peak memory of a GPU", "1 MiB in backward, not confirmed", "0 MiB") in run.rows
    assert ("bytes that were in the cache already", "-", "75%") in run.rows
    assert [row[0] for row in incidents.rows] == ["rung", "watch"]
    assert [row[:2] for row in formats.rows] == [("int8", "refused"), ("fp32", "ships")]
    assert incidents.rows[0][2] == "batch 8 -> 4: out of memory in backward"
    assert training_tables(None, None, None) == ()
