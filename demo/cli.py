"""Be the command `whetstone demo`: the whole loop on this machine, on a simulated line or on real images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from demo.errors import DemoError

FolderOption = Annotated[
    Path | None,
    typer.Option(
        help="where everything is kept; given again, the demo goes on",
        show_default=".whetstone-demo; -simulated behind it with --gpu; .whetstone-images with --images",
    ),
]
ImagesOption = Annotated[
    Path | None, typer.Option(help="folder of real images: images/, labels/, samples.csv, classes.txt")
]
ModelOption = Annotated[Path | None, typer.Option(help=".pt of the first champion, for --images")]
SeedOption = Annotated[int, typer.Option(min=0, help="seed of the simulated lines and of the training")]
RandomOption = Annotated[
    bool, typer.Option(help="train on as many randomly chosen parts afterwards, for comparison")
]
GpuOption = Annotated[
    Literal["here", "simulated"],
    typer.Option(help="where to train: this machine, or a simulated cloud on spot, with a preemption"),
]
LINE_FOLDER, IMAGES_FOLDER = Path(".whetstone-demo"), Path(".whetstone-images")
RENTED_FOLDER = Path(".whetstone-demo-simulated")


def demo(
    *,
    folder: FolderOption = None,
    images: ImagesOption = None,
    model: ModelOption = None,
    seed: SeedOption = 1,
    random_choice: RandomOption = True,
    gpu: GpuOption = "here",
) -> None:
    """Show the loop close: from a frame on the line to a better model on the box."""
    console = Console()
    if (images is None) != (model is None):
        console.print("[red]expected --images and --model together, got one of them[/red]")
        raise typer.Exit(2)
    if images is not None and gpu != "here":
        console.print("[red]expected --gpu with the simulated line, got it with --images[/red]")
        raise typer.Exit(2)
    line_folder = LINE_FOLDER if gpu == "here" else RENTED_FOLDER
    folder = folder or (line_folder if images is None else IMAGES_FOLDER)
    try:
        if images is None or model is None:
            _run_line(folder, (seed, gpu), console, with_random=random_choice)
        else:
            _run_images(folder, (images, model), seed, console)
    except DemoError as error:
        console.print(f"[red]{error}[/red]", highlight=False)
        raise typer.Exit(1) from error
    except KeyboardInterrupt:
        console.print(f"stopped; the same command goes on in {folder}", highlight=False)
        raise typer.Exit(130) from None


def _run_line(folder: Path, given: tuple[int, str], console: Console, *, with_random: bool) -> None:
    from demo.loop.run import run_line_demo
    from demo.loop.settings import SPOT_CLOUD, LoopSettings

    seed, gpu = given
    settings = LoopSettings(seed=seed, cloud=SPOT_CLOUD if gpu == "simulated" else None)
    run_line_demo(folder, settings, console, with_random=with_random)


def _run_images(folder: Path, given: tuple[Path, Path], seed: int, console: Console) -> None:
    from demo.images.run import ImagesInput, run_images_demo
    from demo.images.settings import ImagesSettings

    run_images_demo(folder, ImagesInput(*given), ImagesSettings(seed=seed), console)
