"""Run the demo on the simulated line from an empty folder to the report, or go on where it was.

(1) the folder's state; (2) the services; (3) task, old parts, first release; (4) the boxes, until they
serve it; (5) the lines, and the story until the new release serves; (6) measure, report; (7) the random
choice beside it.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path

from rich.console import Console

from demo.base.recipe import read_recipe, shipped_base
from demo.loop.boxes import await_first_release, start_boxes
from demo.loop.cloud import found_installation
from demo.loop.floor import Keeper, box_folder, line_service
from demo.loop.glance import look
from demo.loop.olddata import old_parts
from demo.loop.outcome import measure_outcome, recalls_of
from demo.loop.patience import patiently
from demo.loop.random_choice import train_on_random
from demo.loop.report import LABELLER_NOTE, RandomResult, ReportStory, print_report, tables_of, write_report
from demo.loop.settings import LoopSettings
from demo.loop.show import Show
from demo.loop.state import DemoState, StateFile
from demo.loop.stations import TaskSpec, prepare_task, running_services
from demo.loop.story import Stage, Story
from flows.champion import Entry
from flows.context import Context
from flows.settings import LimitSettings, RecipeSettings, TaskSettings
from trainer.memory.simulator import ENVIRONMENT, SimulatedMemory


def run_line_demo(
    folder: Path, settings: LoopSettings, console: Console, *, with_random: bool = True
) -> Path:
    """Run the demo and return the report's page.

    Raises:
        DemoError: a package file is wrong, the folder is another demo's, or a station got stuck.
    """
    folder = folder.resolve()
    # (1) what must be right before anything starts
    weights, _ = shipped_base()
    state_file = StateFile(folder / "demo")
    state = state_file.begin("line", settings.seed)
    with ExitStack() as stack:
        show = stack.enter_context(Show(console, settings.devices, settings.training.threshold))
        show.note(LABELLER_NOTE)
        if state.starts > 1:
            show.note(f"going on in {folder}, start {state.starts}")
        # (2) the services
        show.note("starting object store, release server, broker, Prefect server and worker, ingest")
        found_installation(folder, settings.cloud)
        ctx = stack.enter_context(running_services(folder, card_environment(settings.training.short_card)))
        show.note(f"services are up; Prefect: {ctx.settings.prefect.api_url.removesuffix('/api')}")
        # (3) the task up to its first release
        spec = _task_spec(folder, settings, weights)
        ctx = patiently(partial(prepare_task, ctx, spec, show.note))
        show.note("starting the boxes")
        # (4) and (5): boxes, lines, story
        stage = Stage(ctx, settings, state_file, show)
        state = _play(stage, state, stack)
        # (6) the report
        outcome = patiently(partial(measure_outcome, ctx, settings, state, folder / "demo" / "measured"))
        story = ReportStory(settings, state, outcome)
        page = write_report(folder / "report", story)
        # (7) the comparison, when nothing waits for it any more
        if with_random:
            show.note("training on as many randomly chosen parts, for comparison")
            chosen = patiently(partial(_random_result, ctx, settings, folder))
            story = ReportStory(settings, state, outcome, chosen)
            page = write_report(folder / "report", story)
    print_report(console, tables_of(story), page)
    return page


def _play(stage: Stage, state: DemoState, stack: ExitStack) -> DemoState:
    ctx, settings = stage.ctx, stage.settings
    stack.enter_context(start_boxes(ctx, settings))
    if state.base_version is None:
        version = patiently(partial(await_first_release, ctx, settings))
        state = stage.state_file.write(state.model_copy(update={"base_version": version}))
    story = Story(stage, state)
    # One tick first: it writes the lines' orders, also those of a demo that goes on.
    patiently(story.tick)
    lines = tuple(
        line_service(box_folder(ctx.folder, device), device, settings.line_seed(device))
        for device in settings.devices
    )
    stack.enter_context(Keeper(ctx.folder / "demo" / "lines", lines))
    return story.play()


def card_environment(card: SimulatedMemory | None) -> dict[str, str]:
    """Return what makes every training meet a simulated card."""
    return {} if card is None else {ENVIRONMENT: card.model_dump_json()}


def _task_spec(folder: Path, settings: LoopSettings, weights: Path) -> TaskSpec:
    training = settings.training
    recipe = RecipeSettings(
        name="demo-line",
        epochs=training.epochs,
        batch=training.batch,
        learning_rate=training.learning_rate,
        image_size=training.image_size,
        replay_limit=training.replay_images,
        seed=settings.seed,
        threads=training.threads,
        validate_every=training.validate_every,
        precisions=training.precisions,
        format_seconds=training.format_seconds,
    )
    task = TaskSettings(
        channel=settings.channel,
        image_size=training.image_size,
        trigger_threshold=training.threshold,
        devices=settings.devices,
        recipe=recipe,
        limits=LimitSettings(spot=settings.cloud is not None),
        gate=settings.gate,
    )
    entry = Entry(
        licence="AGPL-3.0-or-later",
        reason="the demo's first champion, trained by 'make demo-base' on simulated parts",
        by="demo",
    )
    old = old_parts(folder / "demo" / "old", read_recipe(), settings)
    return TaskSpec(settings.task_id, settings.first_classes, task, old, weights, entry)


def _random_result(ctx: Context, settings: LoopSettings, folder: Path) -> RandomResult:
    run_id = look(ctx, settings.task_id).run.run_id
    folders = [box_folder(ctx.folder, device) for device in settings.devices]
    model = train_on_random(ctx, run_id, folders, folder / "demo" / "random")
    return RandomResult(model.chosen, recalls_of(model.onnx, model.rules, settings))
