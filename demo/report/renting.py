"""Tell what renting came to: tables for the page, and a picture of who trained when."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from demo.report import overhead
from demo.report.page import Table
from demo.report.rented import Rented, Span
from demo.report.summary import Figure

FILE_NAME = "machines.png"
NOTE = (
    "The machines were rented from a simulated cloud: processes of this computer with disks of their own, at "
    "the prices of a small GPU. The money is simulated, and that one was taken away is staged; the training, "
    "its resumption from the bucket and every second are real."
)
_SIZE, _DOTS = (11.0, 3.2), 80
_PARTS = (
    ("boot", "tab:gray"), ("start", "tab:orange"), ("training, a tick an epoch", "tab:blue"),
    ("export", "tab:green"), ("lost", "tab:red"),
)  # fmt: skip


def figures_of(rented: Rented) -> dict[str, Figure]:
    """Return the figures of renting for `summary.json`; money in simulated dollars."""
    losses = rented.losses()
    begun = overhead.figures_of(rented.beginning) if rented.beginning else {}
    return {
        "rent.demo_machines": len(rented.spans),
        "rent.demo_preemptions": sum("taken away" in one.why for one in rented.spans),
        "rent.demo_cost": round(rented.cost, 5),
        "rent.demo_bill": round(rented.bill, 5),
        "rent.demo_on_demand_cost": round(rented.steady_cost(), 5),
        "rent.demo_saved_share": round(rented.saved(), 4),
        "rent.demo_lost_epochs": round(max((one.epochs for one in losses), default=0.0), 3),
        "rent.demo_lost_seconds": round(sum(one.seconds for one in losses), 2),
        **begun,
    }


def tables_of(rented: Rented, epochs: int, planned: int) -> tuple[Table, ...]:
    """Return the machines, and what came of them; `epochs` of the `planned` ones are in the record."""
    begun = (overhead.table_of(rented.beginning),) if rented.beginning else ()
    return _machine_table(rented), _money_table(rented), _loss_table(rented, epochs, planned), *begun


def draw(rented: Rented, path: Path) -> Path:
    """Draw each machine's time into a PNG file and return it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Drawing

    figure = Drawing(figsize=_SIZE, dpi=_DOTS, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    origin = rented.spans[0].ordered_at
    for row, span in enumerate(rented.spans):
        _bar(axes, row, _marks(rented, span), origin)
    _epochs(axes, rented, origin)
    axes.set_yticks(range(len(rented.spans)), [_name(one).replace("$", r"\$") for one in rented.spans])
    axes.invert_yaxis()
    axes.set_xlabel("seconds since the first machine was ordered")
    # Two dollar signs would be taken for a formula.
    axes.set_title(_title(rented).replace("$", r"\$"), fontsize=10)
    axes.margins(y=0.25)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=5, fontsize=8, frameon=False)
    figure.savefig(path, format="png")
    return path


def _bar(axes: Any, row: int, marks: Sequence[datetime], origin: datetime) -> None:
    for (name, colour), (begin, end) in zip(_PARTS, pairwise(marks), strict=True):
        width = max((end - begin).total_seconds(), 0.0)
        label = name if row == 0 else None
        axes.barh(row, width, left=_since(begin, origin), color=colour, height=0.5, label=label)


def _marks(rented: Rented, span: Span) -> list[datetime]:
    """Return where a machine's parts begin and end, in the order of `_PARTS`."""
    booted = span.booted_at or span.ended_at
    trains = span.first_step_at or span.ended_at
    done = [one.at for one in rented.events if one.kind == "epoch" and trains <= one.at <= span.ended_at]
    loss = next((one for one in rented.losses() if one.ended_at == span.ended_at), None)
    if loss is not None:
        saved = max(loss.saved_at, trains)
        return [span.ordered_at, booted, trains, saved, saved, span.ended_at]
    last = done[-1] if done else span.ended_at
    return [span.ordered_at, booted, trains, last, span.ended_at, span.ended_at]


def _epochs(axes: Any, rented: Rented, origin: datetime) -> None:
    """Mark every epoch where its machine did it, and say what was lost."""
    for row, span in enumerate(rented.spans):
        trains = span.first_step_at or span.ended_at
        at = [one.at for one in rented.events if one.kind == "epoch" and trains <= one.at <= span.ended_at]
        axes.plot([_since(one, origin) for one in at], [row] * len(at), "|", color="white", ms=12)
    for loss in rented.losses():
        row = next(number for number, one in enumerate(rented.spans) if one.ended_at == loss.ended_at)
        text = f"{rented.spans[row].why}, {loss.epochs:.1f} epochs lost"
        beside = {"xytext": (4, 0), "textcoords": "offset points", "va": "center"}
        axes.annotate(text, (_since(loss.ended_at, origin), row), fontsize=8, color="tab:red", **beside)


def _since(at: datetime, origin: datetime) -> float:
    return (at - origin).total_seconds()


def _name(span: Span) -> str:
    return f"{span.region}, {_kind(span)}, ${span.price:.2f}/h"


def _kind(span: Span) -> str:
    return "spot" if span.spot else "on demand"


def _title(rented: Rented) -> str:
    return (
        f"{len(rented.spans)} machines for ${rented.cost:.4f}; on demand without a break "
        f"${rented.steady_cost():.4f}: {rented.saved():.0%} saved (simulated dollars)"
    )


def _machine_table(rented: Rented) -> Table:
    head = ("machine", "price an hour", "paid for", "to the first step", "cost", "why it ended")
    rows = tuple(
        (
            f"{one.region}, {_kind(one)}",
            f"${one.price:.2f}",
            f"{one.seconds:.1f} s",
            "-" if one.first_step_at is None
            else f"{(one.first_step_at - one.ordered_at).total_seconds():.1f} s",
            f"${one.cost:.4f}",
            one.why,
        )
        for one in rented.spans
    )  # fmt: skip
    return Table("The machines that were rented (simulated dollars)", head, rows)


def _money_table(rented: Rented) -> Table:
    steady = f"{rented.steady_seconds():.1f} s at ${rented.on_demand:.2f}"
    rows = (
        ("cost, by our leases: from asking for a machine to knowing that it ended", f"${rented.cost:.4f}"),
        ("bill, by the seller's books: from the order to the end itself", f"${rented.bill:.4f}"),
        (
            "always on demand: all seconds paid, less lost work and every start but the first, at the "
            f"cheapest on-demand price: {steady}",
            f"${rented.steady_cost():.4f}",
        ),
        ("saved: 1 - cost / always on demand", f"{rented.saved():.1%}"),
    )
    return Table("What it cost, and what on demand would have (simulated dollars)", ("what", "figure"), rows)


def _loss_table(rented: Rented, epochs: int, planned: int) -> Table:
    losses = rented.losses()
    rows = [("machines taken away", str(sum("taken away" in one.why for one in rented.spans)))]
    rows += [
        (
            f"work lost when the machine ended; the next went on from epoch {one.resumed_from}",
            f"{one.epochs:.2f} epochs, {one.seconds:.1f} s",
        )
        for one in losses
    ]
    rows += [("epochs in the run's record, of those planned", f"{epochs} of {planned}")]
    return Table("What the preemption cost in work", ("what", "figure"), tuple(rows))
