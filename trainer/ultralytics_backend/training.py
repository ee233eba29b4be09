"""Do a training job: check what it starts from, find where it was, and train the rest.

(1) Refuse a dataset made for another class list; clip a batch that is larger than the data.
(2) Find the newest checkpoint that can be continued; say why one cannot.
(3) When its last epoch was done already, train nothing.
(4) Train; then the checkpoint before the last has served.
"""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from trainer.backend_job import EVENTS_FILE, PREVIOUS_FILE, BackendEvent, BackendJob
from trainer.dataset import open_dataset
from trainer.errors import CheckpointLost, DatasetRefused
from trainer.ultralytics_backend import checkpoint, ranks, settings, tracking
from trainer.ultralytics_backend.core import Emit, OnMoment, WhetstoneTrainer

__all__ = ["WhetstoneTrainer", "train"]


def train(
    job: BackendJob,
    overrides: dict[str, Any],
    model: nn.Module,
    emit: Emit,
    fingerprint: str,
    on_moment: OnMoment | None = None,
) -> nn.Module:
    """Train to the last epoch, from a checkpoint if there is one, and return the averaged model.

    A run whose last epoch was done before it was killed trains nothing and returns its model.

    Args:
        job: the work.
        overrides: ultralytics settings made from it by `settings.overrides_of`.
        model: the network to train, its head as long as the class list.
        emit: told about every epoch.
        fingerprint: names the job in checkpoints.
        on_moment: hears every moment of training as it begins, with the trainer.

    Raises:
        DatasetRefused: the dataset was made for another class list.
        CheckpointLost: the job must go on from a checkpoint and none can be continued.
        LossNotFinite: the loss stopped being a number again and again.
    """
    if not ranks.is_first():
        emit = _say_nothing
    ranks.join(cuda=overrides["device"] != "cpu")
    # (1)
    job, overrides = _clipped(job, overrides, emit)
    # (2)
    found, refused = _found(job, fingerprint, model, emit)
    # (3)
    if found is not None and found["epochs"] >= job.epochs:
        model.load_state_dict(checkpoint.averaged_weights(found))
        emit(BackendEvent("resumed", job.epochs, {"images": 0, "weights": found["weights"]}))
        ranks.leave()
        return model
    # (4) The trainer hangs its own settings on the model it is given; what leaves here must not carry them.
    averaged = copy.deepcopy(model)
    trainer = WhetstoneTrainer(job, overrides, model, emit, fingerprint)
    trainer.found, trainer.not_continued, trainer.on_moment = found, refused, on_moment
    tracking.attach(trainer, job)
    trainer.train()
    averaged.load_state_dict(trainer.ema.ema.state_dict())
    trainer.pulse.close()
    ranks.leave()
    if ranks.is_first():
        (job.out / PREVIOUS_FILE).unlink(missing_ok=True)
    return averaged


def _clipped(job: BackendJob, overrides: dict[str, Any], emit: Emit) -> tuple[BackendJob, dict[str, Any]]:
    dataset = open_dataset(job.dataset)
    if dataset.class_names != job.class_names:
        raise DatasetRefused(
            expected=f"a dataset for the classes {list(job.class_names)}",
            got=f"one for {list(dataset.class_names)}", where=str(job.dataset),
            now="Write the dataset again for the class list of the plan.",
        )  # fmt: skip
    fitting = settings.clipped_to(job, dataset.train_images, ranks.world())
    if fitting == job:
        return job, overrides
    why = (
        f"{dataset.train_images} training images are fewer than a step of {job.batch} times"
        f" {job.accumulation} holds: {fitting.batch} times {fitting.accumulation} are taken"
    )
    emit(BackendEvent("watch", 0, {"kind": "batch", "why": why}))
    return fitting, {**overrides, "batch": fitting.batch, "nbs": fitting.batch * fitting.accumulation}


def _found(
    job: BackendJob, fingerprint: str, model: nn.Module, emit: Emit
) -> tuple[checkpoint.State | None, list[str]]:
    """Return the checkpoint to go on from, if any, and why newer ones are not; an older one is told."""
    if not job.resume:
        if ranks.is_first():
            checkpoint.remove_checkpoints(job.out)
        return None, []
    state, refused = checkpoint.newest_checkpoint(job.out, fingerprint, model)
    ranks.wait_for_all()  # nothing is moved while another process may still read it
    if ranks.is_first():
        checkpoint.settle(job.out, state is not None, refused)
    if state is None and job.must_resume:
        raise CheckpointLost(
            expected="a checkpoint to go on from", got="; ".join(refused) or "none", where=str(job.out)
        )
    if state is None:
        return None, refused
    for why in refused:
        data = {"kind": "checkpoint", "why": f"an older one is continued, since {why}"}
        emit(BackendEvent("watch", state["epochs"], data))
    _tell_again(job, state, emit)
    return state, []


def _tell_again(job: BackendJob, state: dict[str, Any], emit: Emit) -> None:
    """Say what the checkpoint's epoch gave if a death between checkpoint and event kept it from being said.

    On another machine nobody knows whether it was said; saying it twice changes nothing in the record.
    """
    line = state["told"]
    events = job.out / EVENTS_FILE
    if line and not (events.is_file() and line in events.read_text()):
        emit(BackendEvent.from_line(line))


def _say_nothing(_event: BackendEvent) -> None:
    """Leave it to the first process."""
