"""Draw the learning curve of a run: losses by epoch, and what the epochs took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fleet_contracts.training import EpochMetrics


@dataclass(frozen=True, slots=True)
class CurveText:
    """Name what the curve shows."""

    title: str
    subtitle: str = ""


def write_learning_curve(path: Path, epochs: Sequence[EpochMetrics], text: CurveText) -> Path:
    """Write the curve as a PNG and return its file; a run without epochs gives empty axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    numbers = [one.epoch for one in epochs]
    names = sorted({name for one in epochs for name in one.losses})
    for name in names:
        values = [one.losses.get(name, float("nan")) for one in epochs]
        axes.plot(numbers, values, marker="o", markersize=3, label=name)
    axes.set_xlabel("epoch")
    axes.set_ylabel("training loss")
    axes.set_ylim(bottom=0.0)
    axes.grid(visible=True, alpha=0.3)
    axes.set_title(f"{text.title}\n{text.subtitle}" if text.subtitle else text.title, fontsize=10)
    if names:
        axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return path
