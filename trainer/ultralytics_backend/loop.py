"""Run a trainer's epochs: ultralytics' loop with its place in our hands.

ultralytics keeps the place within an epoch, the warm-up and the pending gradients in local variables of one
method, halves the batch by itself and waits for the device at every step to print losses. What it
computes at a step is what is computed here (a test compares the weights). Taken apart, an epoch can begin in
its middle, errors of any moment reach the child's edge, and nothing waits for the device between steps.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any

import torch
from ultralytics.utils.torch_utils import autocast, unwrap_model

from trainer.ultralytics_backend import ranks
from trainer.ultralytics_backend.order import batches_of
from trainer.ultralytics_backend.rates import Schedule, rates_at
from trainer.ultralytics_backend.rollback import LossLost, roll_back

_LOOK_EVERY = 20
"""Steps between two looks at whether the loss is a number, where looking waits for a device."""


def run(trainer: Any) -> None:
    """Train from the trainer's place to its last epoch.

    Raises:
        LossNotFinite: the loss stopped being a number again and again.
    """
    trainer.set_up()
    trainer.run_callbacks("on_train_start")
    trainer.optimizer.zero_grad()
    while trainer.place.epoch < trainer.epochs:
        try:
            _epoch(trainer)
        except LossLost as lost:
            roll_back(trainer, lost)
        except RuntimeError as error:
            if not trainer.goes_on_uncompiled(error):
                raise
    if ranks.is_first():
        trainer.run_callbacks("on_train_end")
    trainer.train_loader.close()


def schedule_of(trainer: Any) -> Schedule:
    """Return what the rates of the running epoch follow from."""
    args, share = trainer.args, trainer.share
    batches = batches_of(len(trainer.train_loader.dataset), done=0, share=share)
    warmup_epochs = min(args.warmup_epochs, max(trainer.epochs - 1, 0))
    return Schedule(
        epochs=trainer.epochs, batches=batches, batch=share.batch, accumulation=trainer.accumulate,
        warmup_steps=round(warmup_epochs * batches), final_share=args.lrf,
        warmup_bias_rate=args.warmup_bias_lr, warmup_momentum=args.warmup_momentum, momentum=args.momentum,
        scale=trainer.rate_scale,
    )  # fmt: skip


def _epoch(trainer: Any) -> None:
    place = trainer.place
    trainer.epoch = place.epoch
    trainer.run_callbacks("on_train_epoch_start")
    trainer.open_epoch()
    schedule = schedule_of(trainer)
    images = len(trainer.train_loader.dataset)
    trainer.enter("loader")
    trainer.pulse.ask(place.epoch + 1)
    for batch in trainer.train_loader:
        place.step += 1
        trainer.pulse.before_batch()
        trainer.run_callbacks("on_train_batch_start")
        left = images - place.images
        taken = min(schedule.batch, left)
        rates = _set_rates(trainer, schedule)
        due = place.pending + 1 >= rates.accumulation or taken >= left
        _forward_and_back(trainer, batch, due=due)
        place.images += taken
        place.pending += 1
        if due:
            trainer.optimizer_step()
            place.pending = 0
        trainer.run_callbacks("on_train_batch_end")
        if due and place.images < images:
            _keep_within_epoch(trainer)
        # Last: what comes from here to the next batch is waiting for data.
        trainer.pulse.after_batch(taken)
        trainer.enter("loader")
    _look(trainer, now=True)
    trainer.close_epoch()


def _set_rates(trainer: Any, schedule: Schedule) -> Any:
    rates = rates_at(schedule, trainer.place.epoch, trainer.place.images)
    for group in trainer.optimizer.param_groups:
        group["lr"] = rates.rate_of(group["initial_lr"], bias=group.get("param_group") == "bias")
        if "momentum" in group:
            group["momentum"] = rates.momentum
    return rates


def _forward_and_back(trainer: Any, batch: dict[str, Any], *, due: bool) -> None:
    model = trainer.model
    # Gradients of devices are summed up once for each step of the optimizer, not for each batch.
    quiet = contextlib.nullcontext() if due or not ranks.is_wrapped(model) else model.no_sync()
    with quiet:
        with autocast(trainer.number_format, device=trainer.device.type):
            trainer.enter("forward")
            batch = trainer.preprocess_batch(batch)
            outputs = model(batch["img"])
            trainer.enter("loss")
            loss, trainer.loss_items = unwrap_model(model).loss(batch, outputs)
            del outputs  # what the backward pass needs of them is kept by the graph; the rest is room
            trainer.loss = loss.sum() * ranks.world()
        trainer.place.losses.add(trainer.loss_items)
        trainer.bad_loss |= ~torch.isfinite(trainer.loss.detach())
        trainer.last_images = batch["im_file"]
        _look(trainer)
        trainer.enter("backward")
        trainer.scaler.scale(trainer.loss).backward()


def _look(trainer: Any, *, now: bool = False) -> None:
    """See whether every loss since the last look was a number, now or when it is time to."""
    cheap = trainer.device.type == "cpu" and ranks.world() == 1
    if not (now or cheap or trainer.place.step % _LOOK_EVERY == 0):
        return
    if ranks.any_says(trainer.bad_loss):
        raise LossLost(trainer.place.epoch, trainer.place.step, exact=cheap)


def _keep_within_epoch(trainer: Any) -> None:
    minutes = trainer.job.checkpoint_minutes
    if minutes and ranks.agree(time.monotonic() - trainer.kept_at > minutes * 60.0, trainer.device):
        _look(trainer, now=True)
        trainer.keep()
