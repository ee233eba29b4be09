"""Draw where a training's memory goes: over one step as a stacked area, and at the peak as bars."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fleet_contracts.training import VramEstimate
from trainer.vram import ModelProfile, TrainingShape
from trainer.vram.profile import TERMS
from trainer.vram.replay import replay

_MIB = 2**20
_COLOURS = ("#4c72b0", "#8172b3", "#937860", "#55a868", "#dd8452", "#64b5cd", "#c44e52", "#8c8c8c", "#da8bc3")
_NAMED = ("forward", "loss", "backward", "optimizer")
_POINTS = 1500
"""So many moments of the step are drawn; the highest one is always among them."""


def draw(profile: ModelProfile, shape: TrainingShape, found: VramEstimate, out: Path) -> None:
    """Write the picture as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (over, bars) = pyplot.subplots(
        1, 2, figsize=(11, 4.2), width_ratios=(2.2, 1), layout="constrained"
    )
    told = "confirmed" if found.confirmed else "not confirmed by a GPU"
    figure.suptitle(
        f"{profile.name}, {shape.image_size} px, batch {shape.batch}, {shape.precision}: "
        f"{found.peak_bytes / _MIB:,.0f} MiB at the peak ({told})", fontsize=11,
    )  # fmt: skip
    _over_time(over, profile, shape, found)
    _at_peak(bars, found)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=90)
    pyplot.close(figure)


def _over_time(axes: Any, profile: ModelProfile, shape: TrainingShape, found: VramEstimate) -> None:
    curve = replay(profile, shape, keep_curve=True).curve
    kept = _thinned([sum(live) for _moment, live in curve])
    rows = [curve[at][1] for at in kept]
    layers = [[row[number] / _MIB for row in rows] for number in range(len(TERMS))]
    shown = [number for number in range(len(TERMS)) if max(layers[number], default=0)]
    axes.stackplot(kept, [layers[number] for number in shown], labels=[TERMS[number] for number in shown],
                   colors=[_COLOURS[number] for number in shown])  # fmt: skip
    axes.axhline(
        (found.peak_bytes - found.terms["context"]) / _MIB, color="black", linewidth=0.8, linestyle="--"
    )
    _name_moments(axes, [moment for moment, _live in curve])
    axes.set(
        xlabel="births and deaths of blocks, in order", ylabel="MiB", title="one step (dashed: reserved)"
    )
    axes.legend(loc="lower center", fontsize=7, ncols=3)
    axes.margins(x=0)


def _name_moments(axes: Any, moments: list[str]) -> None:
    axes.set_ylim(top=axes.get_ylim()[1] * 1.08)
    for at, moment in enumerate(moments):
        if moment in _NAMED and (at == 0 or moments[at - 1] != moment):
            axes.axvline(at, color="white", linewidth=0.6)
            axes.text(at, 0.99, f" {moment}", transform=axes.get_xaxis_transform(), fontsize=7, va="top")


def _at_peak(axes: Any, found: VramEstimate) -> None:
    names = [name for name, size in found.terms.items() if size][::-1]
    sizes = [found.terms[name] / _MIB for name in names]
    drawn = axes.barh(names, sizes, color=[_colour(name) for name in names])
    axes.bar_label(drawn, [f"{size:,.0f}" for size in sizes], fontsize=7, padding=2)
    axes.set(title=f"at the peak (in the {found.moment})", xlabel="MiB")
    axes.margins(x=0.15)


def _colour(name: str) -> str:
    return dict(zip((str(term) for term in TERMS), _COLOURS, strict=True)).get(name, "#444444")


def _thinned(heights: list[int]) -> list[int]:
    """Return the moments to draw: the highest of each stretch."""
    step = max(len(heights) // _POINTS, 1)
    return [max(range(at, min(at + step, len(heights))), key=heights.__getitem__)
            for at in range(0, len(heights), step)]  # fmt: skip
