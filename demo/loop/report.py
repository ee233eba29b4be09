"""Tell how the demo on the simulated line went: tables for the terminal and the page, pictures, figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table as RichTable

from demo.line.script import ALL_CLASSES
from demo.loop.glance import Glance
from demo.loop.outcome import Outcome, Recalls, kinds_told
from demo.loop.settings import LoopSettings
from demo.loop.state import DemoState
from demo.report import renting
from demo.report.curve import FILE_NAME as RUN_PICTURE
from demo.report.curve import draw_run
from demo.report.page import Page, Picture, Table, write_page
from demo.report.pictures import write_side_by_side
from demo.report.summary import Figure, write_summary
from demo.report.training import training_tables

LABELLER_NOTE = (
    "The simulator's ground truth played the human labeller: every label of this demo comes from it, "
    "and only parts that the boxes had uploaded were labelled."
)
CARD_NOTE = (
    "The trainer met a simulated card that is too small on purpose: late in training memory ran out, and the "
    "run went on from its last checkpoint with a smaller batch. Everything else of the training is real, on "
    "this machine's processor."
)
_SHEET = "missed-then-found.png"


@dataclass(frozen=True, slots=True)
class RandomResult:
    """Hold what as many randomly chosen parts gave."""

    chosen: int
    recalls: Recalls


@dataclass(frozen=True, slots=True)
class ReportStory:
    """Hold all a report is written from."""

    settings: LoopSettings
    state: DemoState
    outcome: Outcome
    random: RandomResult | None = None


def figures_of(story: ReportStory) -> dict[str, Figure]:
    """Return the figures of `summary.json`, by their names in the project's issues."""
    outcome = story.outcome
    figures: dict[str, Figure] = {
        "demo.seconds": round(outcome.seconds, 1),
        "demo.recall_before": outcome.before["novel"]["all"],
        "demo.recall_after": outcome.after["novel"]["all"],
        "demo.frames_dropped": outcome.frames_dropped,
        "demo.examples_lost": outcome.examples_lost,
        "demo.known_recall_before": outcome.before["known"]["all"],
        "demo.known_recall_after": outcome.after["known"]["all"],
        "demo.examples_uploaded": outcome.glance.mined,
        "demo.train_seconds": round(train_seconds(outcome), 1),
        "demo.seed": story.settings.seed,
        "demo.starts": story.state.starts,
    }
    if story.random is not None:
        figures["demo.recall_random"] = story.random.recalls["novel"]["all"]
    if outcome.rented is not None:
        figures |= renting.figures_of(outcome.rented)
    return figures


def notes_of(story: ReportStory) -> tuple[str, ...]:
    """Return what a reader has to know: who labelled, and what of the machine was simulated."""
    record = story.outcome.run.record
    notes = [LABELLER_NOTE]
    if record is not None and record.rungs and story.settings.training.short_card is not None:
        notes.append(CARD_NOTE)
    if story.outcome.rented is not None:
        notes.append(renting.NOTE)
    return tuple(notes)


def train_seconds(outcome: Outcome) -> float:
    """Return the seconds from the training's start to its end."""
    record = outcome.run.record
    return (record.ended_at - record.started_at).total_seconds() if record and record.ended_at else 0.0


def tables_of(story: ReportStory) -> tuple[Table, ...]:
    """Return what the demo tells in tables."""
    glance = story.outcome.glance
    outcome = story.outcome
    training = training_tables(outcome.run.plan, outcome.run.record, glance.gate)
    told = (*training, *_renting_tables(story), upload_table(glance), gate_table(glance))
    return (_recall_table(story), _run_table(story), *told)


def write_report(folder: Path, story: ReportStory) -> Path:
    """Write pictures, page and figures; return the page."""
    outcome = story.outcome
    folder.mkdir(parents=True, exist_ok=True)
    write_side_by_side(folder / _SHEET, outcome.pictures, ALL_CLASSES)
    write_summary(folder, figures_of(story))
    pictures = [
        Picture(_SHEET, "Unseen parts: what is there, what the first release found, what the new one finds."),
    ]
    if draw_run(folder, outcome.run):
        pictures.append(Picture(RUN_PICTURE, "The training of the run that was promoted."))
    if outcome.rented is not None:
        renting.draw(outcome.rented, folder / renting.FILE_NAME)
        pictures.append(Picture(renting.FILE_NAME, "The machines that trained it, and what was lost."))
    page = Page("Whetstone: a line that changed", notes_of(story), tables_of(story), tuple(pictures))
    return write_page(folder, page)


def print_report(console: Console, tables: Sequence[Table], page: Path) -> None:
    """Print the tables and where the report lies."""
    for table in tables:
        shown = RichTable(title=table.title, title_justify="left")
        for name in table.head:
            shown.add_column(name)
        for row in table.rows:
            shown.add_row(*row)
        console.print(shown)
    console.print(f"report: {page}")


def _renting_tables(story: ReportStory) -> tuple[Table, ...]:
    rented, run = story.outcome.rented, story.outcome.run
    if rented is None:
        return ()
    planned = sum(stage.epochs for stage in run.plan.stages) if run.plan else 0
    return renting.tables_of(rented, len(run.record.epochs) if run.record else 0, planned)


def _recall_table(story: ReportStory) -> Table:
    outcome, random = story.outcome, story.random
    head = ("unseen parts", "kind", "first release", "new release")
    rows = []
    for mix, title in (("novel", "changed look, new kind"), ("known", "as the first champion knows them")):
        for kind in kinds_told():
            if kind not in outcome.before[mix] and kind not in outcome.after[mix]:
                continue
            row = (title, kind, _share(outcome.before[mix], kind), _share(outcome.after[mix], kind))
            rows.append((*row, _share(random.recalls[mix], kind)) if random else row)
    chosen = (f"{random.chosen} random parts",) if random else ()
    return Table("Recall at the operating threshold", (*head, *chosen), tuple(rows))


def _share(recalls: dict[str, float], kind: str) -> str:
    return f"{recalls[kind]:.3f}" if kind in recalls else "-"


def _run_table(story: ReportStory) -> Table:
    outcome, state = story.outcome, story.state
    record = outcome.run.record
    rows = (
        ("first frame to new release on every box", f"{outcome.seconds:.0f} s"),
        ("training", f"{train_seconds(outcome):.0f} s, {len(record.epochs) if record else 0} epochs"),
        ("releases", f"{state.base_version} before, {state.new_version} now"),
        ("frames dropped in the swap", str(outcome.frames_dropped)),
        ("longest wait of a frame for the swap", f"{_longest_wait(outcome):.3f} ms"),
        ("examples uploaded", str(outcome.glance.mined)),
        ("examples lost", str(outcome.examples_lost)),
        ("times the demo was started in this folder", str(state.starts)),
    )
    return Table("The loop", ("what", "figure"), rows)


def _longest_wait(outcome: Outcome) -> float:
    swaps = [report.last_swap for report in outcome.glance.devices.values()]
    return max((swap.gap_ms for swap in swaps if swap), default=0.0)


def upload_table(glance: Glance) -> Table:
    """Return how many examples were uploaded by which rule."""
    reasons = sorted(glance.reasons.items(), key=lambda item: -item[1])
    rows = tuple((name, str(count)) for name, count in reasons)
    return Table("Examples uploaded and why", ("rule", "examples"), rows)


def gate_table(glance: Glance) -> Table:
    """Return every rule of the gate with what it expected and got."""
    gate = glance.gate
    if gate is None:
        return Table("The gate", ("rule",), (("no candidate was judged",),))
    rows = tuple(
        (one.rule, "passed" if one.passed else "failed", one.expected, one.got) for one in gate.findings
    )
    return Table("The gate", ("rule", "verdict", "expected", "got"), rows)
