"""Run the demo on a folder of real images: mine new boards, label, retrain with old ones, judge, roll out.

(1) read and check the folder; (2) the services; (3) task, old images, first release; (4) the boxes;
(5) every new image passes; (6) its labels arrive for what the boxes sent; (7) the automation trains, the
gate judges on a part cut from the snapshot and from the old images, the release rolls out; (8) only now
`new_val` and `base_val` are read, once.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from demo.errors import BadDataset
from demo.images.feed import CameraFolder, Feeder
from demo.images.layout import ImageFolder, ImageRow, read_image_folder
from demo.images.outcome import measure_images
from demo.images.report import ImagesReport, images_tables, write_images_report
from demo.images.settings import GATE, ImagesSettings
from demo.images.story import ImagesStage, ImagesStory
from demo.loop.boxes import await_first_release, start_boxes
from demo.loop.floor import box_folder
from demo.loop.patience import patiently
from demo.loop.report import print_report
from demo.loop.settings import LoopSettings, Mining
from demo.loop.show import Show
from demo.loop.state import StateFile
from demo.loop.stations import TaskSpec, prepare_task, running_services
from flows.champion import Entry
from flows.labels.dataset import ImportItem
from flows.settings import RecipeSettings, TaskSettings

LABELLER_NOTE = (
    "The folder's labels/ played the human labeller: only images that the boxes had uploaded were labelled."
)


@dataclass(frozen=True, slots=True)
class ImagesInput:
    """Point at the folder of images and at the weights the first release is made from."""

    images: Path
    model: Path


def run_images_demo(folder: Path, given: ImagesInput, settings: ImagesSettings, console: Console) -> Path:
    """Run the demo on real images and return the report's page.

    Raises:
        DemoError: the images or the folder are not what they should be, or a station got stuck.
    """
    folder = folder.resolve()
    # (1) everything that can be wrong with the input is told before anything starts
    data = read_image_folder(given.images)
    if not given.model.is_file():
        raise BadDataset(expected="a .pt file", got="no such file", where=str(given.model))
    state_file = StateFile(folder / "demo")
    state = state_file.begin("images", settings.seed)
    threshold = least_examples(settings, data)
    with ExitStack() as stack:
        show = stack.enter_context(Show(console, settings.devices, threshold))
        show.note(LABELLER_NOTE)
        # (2)
        show.note("starting object store, release server, broker, Prefect server and worker, ingest")
        ctx = stack.enter_context(running_services(folder))
        show.note(f"services are up; Prefect: {ctx.settings.prefect.api_url.removesuffix('/api')}")
        # (3)
        ctx = patiently(partial(prepare_task, ctx, task_spec(data, given.model, settings), show.note))
        # (4)
        show.note("starting the boxes")
        boxes = box_settings(settings)
        stack.enter_context(start_boxes(ctx, boxes))
        if state.base_version is None:
            version = await_first_release(ctx, boxes)
            state = state_file.write(state.model_copy(update={"base_version": version}))
        # (5) to (7)
        stage = ImagesStage(ctx, settings, data, state_file, show)
        cameras = [CameraFolder(name, box_folder(folder, name).camera) for name in settings.devices]
        story = ImagesStory(stage, state, Feeder(data.split("new_pool"), cameras, settings.seed))
        state = story.play()
        # (8)
        outcome = patiently(partial(measure_images, ctx, settings, data, state, folder / "demo" / "measured"))
    report = ImagesReport(settings, state, outcome, data.class_names)
    page = write_images_report(folder / "report", report)
    print_report(console, images_tables(report), page)
    return page


def least_examples(settings: ImagesSettings, data: ImageFolder) -> int:
    """Return how many labelled new images start a training."""
    return max(1, round(settings.least_share * len(data.split("new_pool"))))


def box_settings(settings: ImagesSettings) -> LoopSettings:
    """Return what the boxes are told, in the words of the demo on the line."""
    mining = Mining(settings.low, settings.high, settings.random_share, max_per_hour=0)
    return LoopSettings(
        seed=settings.seed,
        task_id=settings.task_id,
        channel=settings.channel,
        devices=settings.devices,
        mining=mining,
    )


def task_spec(data: ImageFolder, model: Path, settings: ImagesSettings) -> TaskSpec:
    """Return the task: recipe, gate, and the old images, some of them golden."""
    training = settings.training
    recipe = RecipeSettings(
        name="demo-images",
        epochs=training.epochs,
        batch=training.batch,
        learning_rate=training.learning_rate,
        image_size=training.image_size,
        replay_limit=training.replay_images,
        seed=settings.seed,
        threads=training.threads,
        validate_every=training.validate_every,
        precisions=training.precisions,
    )
    task = TaskSettings(
        channel=settings.channel,
        image_size=training.image_size,
        trigger_threshold=least_examples(settings, data),
        devices=settings.devices,
        val_share=training.val_share,
        recipe=recipe,
        gate=GATE,
    )
    return TaskSpec(
        task_id=settings.task_id,
        class_names=data.class_names,
        settings=task,
        old_data=old_images(data.split("base_train"), settings),
        weights=model,
        entry=Entry(licence="as its owner says", reason="given to the demo with --model", by="demo"),
        overrule="the demo begins with the model it was given, however little that sees",
    )


def old_images(rows: tuple[ImageRow, ...], settings: ImagesSettings) -> list[ImportItem]:
    """Return the old images; an even choice of them is golden, for the question of forgetting.

    Where there are few old images, at most a fifth of them becomes golden.
    """
    count = min(settings.training.golden_images, len(rows) // 5)
    step = len(rows) / count if count else 0.0
    golden = {int(number * step) for number in range(count)}
    return [
        ImportItem(
            name=row.stem,
            image=row.image,
            label=row.label,
            slices={"board": row.board},
            pinned="golden" if number in golden else "train",
        )
        for number, row in enumerate(rows)
    ]
