"""Tell the grid as Markdown and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.renting_parts.cells import CHEAPEST, ON_DEMAND, OURS, POLICIES, RECOVERY, RECOVERY_ANY, Cell

BEGIN, END = "<!-- bench-renting: begin -->", "<!-- bench-renting: end -->"
_COLOURS = {OURS: "tab:blue", ON_DEMAND: "tab:gray", CHEAPEST: "tab:olive", RECOVERY: "tab:orange",
            RECOVERY_ANY: "tab:red"}  # fmt: skip


def markdown(cells: Sequence[Cell], figures: dict[str, float]) -> str:
    """Return the table: each policy's cost over the optimum's, and in brackets the runs that were late."""
    runs = len(cells[0].optimum)
    head = ["spot discount", "hours to preemption", "slack", "optimum", *POLICIES, "work lost (ours)"]
    lines = [
        f"{int(figures['rent.runs'])} runs of 4 hours' work, {runs} a cell, each policy in the same worlds; "
        f"cost as a multiple of the offline optimum's, in brackets how many of {runs} were late.",
        "",
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
    ]
    lines += [_row(cell, runs) for cell in cells]
    lines += ["", "| figure | value |", "|---|---|"]
    lines += [f"| `{name}` | {value:g} |" for name, value in figures.items()]
    return "\n".join(lines)


def draw(cells: Sequence[Cell], path: Path) -> None:
    """Draw cost over the optimum's for every cell, a panel a slack; late policies get a cross."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    slacks = sorted({cell.work.slack for cell in cells})
    figure = Figure(figsize=(11.0, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    for index, slack in enumerate(slacks):
        axes = figure.add_subplot(1, len(slacks), index + 1)
        here = [cell for cell in cells if cell.work.slack == slack]
        names = [f"{cell.climate.discount:.0%}\n{cell.climate.hours_to_preemption:g} h" for cell in here]
        for policy in POLICIES:
            ratios = [cell.ratio(policy) for cell in here]
            late = [number for number, cell in enumerate(here) if cell.late(policy)]
            style = {"marker": "o", "markersize": 3, "color": _COLOURS[policy], "label": policy}
            axes.plot(range(len(here)), ratios, **style)
            axes.plot(late, [ratios[one] for one in late], "x", color="black", markersize=7)
        axes.axhline(1.25, color="black", linewidth=0.6, linestyle=":")
        axes.set_xticks(range(len(here)), names, fontsize=7)
        axes.set_ylim(0.95, 3.0)
        axes.set_title(f"slack {slack:g}", fontsize=9)
    figure.axes[0].set_ylabel("cost over the offline optimum's")
    figure.axes[-1].legend(frameon=False, fontsize=7, title="x: some were late", title_fontsize=7)
    figure.savefig(path, dpi=90)


def _row(cell: Cell, runs: int) -> str:
    climate = cell.climate
    row = [f"{climate.discount:.0%}", f"{climate.hours_to_preemption:g}", f"{cell.work.slack:g}"]
    row.append(f"${sum(cell.optimum) / runs:.2f}")
    for policy in POLICIES:
        late = cell.late(policy)
        row.append(f"{cell.ratio(policy):.2f}" + (f" ({late})" if late else ""))
    row.append(f"{cell.lost(OURS):.1f} min")
    return f"| {' | '.join(row)} |"
