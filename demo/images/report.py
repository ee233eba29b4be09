"""Tell how the demo on real images went: tables, pictures and figures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from demo.images.outcome import ImagesOutcome
from demo.images.settings import ImagesSettings
from demo.loop.report import gate_table, upload_table
from demo.loop.state import DemoState
from demo.report.curve import FILE_NAME as RUN_PICTURE
from demo.report.curve import draw_run
from demo.report.page import Page, Picture, Table, write_page
from demo.report.pictures import write_side_by_side
from demo.report.summary import Figure, write_summary
from demo.report.training import training_tables

NOTE = (
    "The folder's labels/ played the human labeller. new_val and base_val were read once, after the verdict; "
    "thresholds and the gate used a part cut from the snapshot and from base_train."
)
_SHEET = "missed-then-found.png"
_TITLES = {"new_val": "new boards (new_val)", "base_val": "old boards (base_val)"}


@dataclass(frozen=True, slots=True)
class ImagesReport:
    """Hold all a report is written from."""

    settings: ImagesSettings
    state: DemoState
    outcome: ImagesOutcome
    class_names: tuple[str, ...]


def images_figures(report: ImagesReport) -> dict[str, Figure]:
    """Return the figures of `summary.json`; gains and losses in points of mAP50."""
    outcome = report.outcome
    before, after = outcome.before, outcome.after
    figures: dict[str, Figure] = {
        "real.new_val_gain": _points(after["new_val"].map50 - before["new_val"].map50),
        "real.base_val_loss": _points(before["base_val"].map50 - after["base_val"].map50),
        "real.seconds": round(outcome.seconds, 1),
        "real.promoted": int(outcome.promoted),
        "real.examples_uploaded": outcome.glance.mined,
    }
    for split in ("new_val", "base_val"):
        for when, side in (("before", before), ("after", after)):
            figures[f"real.{split}_map50_{when}"] = round(side[split].map50, 4)
            figures[f"real.{split}_recall_{when}"] = round(side[split].recall, 4)
    return figures


def images_tables(report: ImagesReport) -> tuple[Table, ...]:
    """Return what the demo tells in tables."""
    outcome = report.outcome
    return (_figures_table(report), _class_table(report), _board_table(report), _run_table(report),
            *training_tables(outcome.run.plan, outcome.run.record, outcome.glance.gate),
            upload_table(outcome.glance), gate_table(outcome.glance))  # fmt: skip


def write_images_report(folder: Path, report: ImagesReport) -> Path:
    """Write pictures, page and figures; return the page."""
    outcome = report.outcome
    folder.mkdir(parents=True, exist_ok=True)
    write_side_by_side(folder / _SHEET, outcome.pictures, report.class_names)
    write_summary(folder, images_figures(report))
    pictures = [
        Picture(_SHEET, "new_val: what is there, what the first release found, what the candidate finds."),
    ]
    if draw_run(folder, outcome.run):
        pictures.append(Picture(RUN_PICTURE, "The training."))
    verdict = "The gate promoted the candidate." if outcome.promoted else "The gate refused the candidate."
    page = Page("Whetstone: real images", (NOTE, verdict), images_tables(report), tuple(pictures))
    return write_page(folder, page)


def _points(share: float) -> float:
    return round(100.0 * share, 2)


def _figures_table(report: ImagesReport) -> Table:
    rows = []
    for split, title in _TITLES.items():
        before, after = report.outcome.before[split], report.outcome.after[split]
        rows += [
            (title, "mAP50", f"{before.map50:.3f}", f"{after.map50:.3f}"),
            (title, "mAP50-95", f"{before.map50_95:.3f}", f"{after.map50_95:.3f}"),
            (title, "recall at the operating threshold", f"{before.recall:.3f}", f"{after.recall:.3f}"),
            (title, "false positives there", str(before.false_positives), str(after.false_positives)),
        ]
    return Table("Before and after", ("images", "figure", "first release", "candidate"), tuple(rows))


def _class_table(report: ImagesReport) -> Table:
    rows = []
    for split, title in _TITLES.items():
        before = report.outcome.before[split].ap50_per_class
        after = report.outcome.after[split].ap50_per_class
        rows += [(title, name, _figure(before, name), _figure(after, name)) for name in report.class_names]
    return Table("AP50 by class", ("images", "class", "first release", "candidate"), tuple(rows))


def _board_table(report: ImagesReport) -> Table:
    rows = []
    for split, title in _TITLES.items():
        before = report.outcome.before[split].map50_per_board
        after = report.outcome.after[split].map50_per_board
        rows += [(title, board, f"{before[board]:.3f}", f"{after[board]:.3f}") for board in before]
    return Table("mAP50 by board", ("images", "board", "first release", "candidate"), tuple(rows))


def _figure(values: dict[str, float], name: str) -> str:
    return f"{values[name]:.3f}" if name in values else "-"


def _run_table(report: ImagesReport) -> Table:
    outcome, state = report.outcome, report.state
    rows = (
        ("verdict", "promoted" if outcome.promoted else "refused"),
        ("first frame to new release on every box, or to the refusal", f"{outcome.seconds:.0f} s"),
        ("epochs", str(len(outcome.run.record.epochs) if outcome.run.record else 0)),
        ("releases", f"{state.base_version} before, {state.new_version or 'none'} now"),
        ("examples uploaded", str(outcome.glance.mined)),
        ("times the demo was started in this folder", str(state.starts)),
    )
    return Table("The loop", ("what", "figure"), rows)
