"""Show what memory a training would need: `whetstone plan estimate yolo11n --image-size 640 --batch 16`."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from flows.cli.common import DEFAULT_FOLDER, Folder, console
from trainer.vram.cards import CARDS, RESERVE

if TYPE_CHECKING:
    from fleet_contracts.training import VramEstimate
    from trainer.vram import ModelProfile, TrainingShape

Optimizer = Literal["AdamW", "SGD", "Adam", "MuSGD"]
_MIB = 2**20
_MOST_BATCH = 1024
_FAMILY = re.compile(r"(yolo(?:v5|v6|v8|11|12|26))(u?)(?:\.yaml|\.pt)?")
_TOLD = {
    "weights": "weights, and their half copies under autocast",
    "gradients": "gradients of the weights alive at the peak",
    "optimizer": "the optimizer's states",
    "ema": "averaged copy of the weights",
    "activations": "saved activations and what flows back through them",
    "batch": "images",
    "loss": "loss and label assignment, grows with boxes",
    "workspace": "what kernels take for themselves (cuBLAS, cuDNN)",
    "ddp": "buckets of the other devices' gradients",
    "slack": "reserved by the allocator beyond what is in use",
    "context": "CUDA context and libraries, outside the allocator",
}


def add_to(group: typer.Typer) -> None:
    """Add this command to `whetstone plan`."""
    group.command("estimate")(estimate)


def estimate(
    model: Annotated[str, typer.Argument(help="yolo11n, yolov8m.yaml, a model yaml, or a trusted .pt")],
    image_size: Annotated[int, typer.Option(help="side of the square images in pixels")] = 640,
    batch: Annotated[int, typer.Option(min=1, help="images on one device in one step")] = 16,
    precision: Annotated[Literal["fp32", "fp16", "bf16"], typer.Option(help="of the step")] = "bf16",
    classes: Annotated[int, typer.Option(min=1, help="how many classes")] = 80,
    boxes: Annotated[float, typer.Option(min=0, help="boxes on an image, on average")] = 8.0,
    optimizer: Annotated[Optimizer, typer.Option(help="as in a recipe")] = "AdamW",
    devices: Annotated[int, typer.Option(min=1, help="devices, each with a batch of its own")] = 1,
    accumulation: Annotated[int, typer.Option(min=1, help="batches for one step of the optimizer")] = 1,
    freeze: Annotated[int, typer.Option(min=0, help="layers that are not trained")] = 0,
    mosaic: Annotated[bool, typer.Option(help="whether images are mixed to mosaics")] = True,
    expandable: Annotated[bool, typer.Option(help="expandable allocator segments")] = True,
    out: Annotated[Path | None, typer.Option(help="write a picture (PNG)", dir_okay=False)] = None,
    folder: Folder = DEFAULT_FOLDER,
) -> None:
    """Estimate the peak of GPU memory of a training, from a trace on this processor; needs no GPU."""
    from trainer.vram import TrainingShape, estimate_vram, load_calibration, profile_of
    from trainer.vram.estimate import require_shape

    _require_a_size(model)
    if out is not None and out.suffix.lower() != ".png":
        raise typer.BadParameter(f"{out}: a file that ends with .png is needed")
    shape = TrainingShape(
        image_size=image_size, batch=batch, precision=precision, optimizer=optimizer, classes=classes,
        boxes_per_image=boxes, devices=devices, freeze_layers=freeze, mosaic=mosaic,
        expandable_segments=expandable, accumulation=accumulation,
    )  # fmt: skip
    with console.status("tracing one small step"):
        profile = profile_of(model, classes, cache=folder / "cache" / "profiles", freeze_layers=freeze)
    require_shape(profile, shape)
    found = estimate_vram(profile, shape, load_calibration())
    console.print(_terms(profile, shape, found))
    console.print(_conclusion(profile, shape, found), highlight=False, soft_wrap=True)
    console.print(_cards(found, _peaks_by_batch(profile, shape)))
    if out is not None:
        from flows.cli.plan_picture import draw

        draw(profile, shape, found, out)
        console.print(f"picture: {out}", highlight=False, soft_wrap=True)


def _require_a_size(model: str) -> None:
    """Refuse a family's name without a size: ultralytics would silently take the smallest."""
    family = _FAMILY.fullmatch(model)
    if family is not None and not Path(model).is_file():
        raise typer.BadParameter(
            f"{model} is a family of networks; add a size, n, s, m, l or x, as in {family[1]}n{family[2]}"
        )


def confirmation(found: VramEstimate) -> str:
    """Say what an estimate rests on."""
    if found.confirmed:
        return f"confirmed by measured runs ({found.calibration})"
    if found.calibration:
        return f"not confirmed: {found.calibration} holds no run of this family and size"
    return "not confirmed: no run on a GPU has been measured yet"


def _terms(profile: ModelProfile, shape: TrainingShape, found: VramEstimate) -> Table:
    title = (
        f"{profile.name}: {shape.image_size} px, batch {shape.batch}, {shape.precision}, {shape.optimizer}"
    )
    table = Table("term", "what", title=title, show_footer=True)
    table.add_column("MiB", justify="right", footer=f"{found.peak_bytes / _MIB:,.0f}")
    table.add_column("share", justify="right")
    table.columns[0].footer, table.columns[1].footer = "peak", f"in the {found.moment}; {confirmation(found)}"
    for name, size in found.terms.items():
        table.add_row(name, _TOLD.get(name, ""), f"{size / _MIB:,.0f}", f"{size / found.peak_bytes:.1%}")
    return table


def _conclusion(profile: ModelProfile, shape: TrainingShape, found: VramEstimate) -> str:
    from trainer.vram import naive_estimate

    naive = naive_estimate(profile, shape)
    return (
        f"The published formula (parameters x 4 x 3 + batch) says {naive / _MIB:,.0f} MiB: "
        f"{found.peak_bytes / naive:.1f} times too little. It leaves out what the backward pass needs again."
    )


def _peaks_by_batch(profile: ModelProfile, shape: TrainingShape) -> dict[int, int]:
    """Return the peak of every batch that is a power of two, up to more than any card holds."""
    from trainer.vram import estimate_vram, load_calibration

    calibration = load_calibration()
    peaks: dict[int, int] = {}
    batch = 1
    while batch <= _MOST_BATCH and (not peaks or CARDS[-1].holds(max(peaks.values()))):
        peaks[batch] = estimate_vram(profile, replace(shape, batch=batch), calibration).peak_bytes
        batch *= 2
    return peaks


def _cards(found: VramEstimate, peaks: dict[int, int]) -> Table:
    told = f"{RESERVE:.0%} of a card left free; {'confirmed' if found.confirmed else 'not confirmed'}"
    table = Table("card", title="what it would fit", caption=told)
    for heading in ("MiB", "taken", "fits", "largest 2ⁿ batch"):
        table.add_column(heading, justify="right")
    for card in CARDS:
        fits = "[green]yes[/]" if card.holds(found.peak_bytes) else "[red]no[/]"
        largest = max((batch for batch, peak in peaks.items() if card.holds(peak)), default=0)
        taken = f"{card.share(found.peak_bytes):.0%}"
        table.add_row(card.name, f"{card.memory_mib:,}", taken, fits, str(largest) if largest else "none")
    return table
