"""Go back when the loss stops being a number: to the last good checkpoint, with half the rate.

Three times at most: what comes again at an eighth of the rate is in the data or in the recipe.
"""

from __future__ import annotations

from typing import Any

import torch
from ultralytics.utils.torch_utils import unwrap_model

from trainer.backend_job import BackendEvent
from trainer.errors import LossNotFinite
from trainer.ultralytics_backend import checkpoint
from trainer.ultralytics_backend.losses import masked_criterion

MOST_ROLLBACKS = 3
_NAMES = 4


class LossLost(Exception):
    """Tell that the loss of an epoch's step, or of one shortly before it, is not a number.

    Args:
        epoch: finished epochs.
        step: batch of the running epoch, from 1.
        exact: whether it was this very batch.
    """

    def __init__(self, epoch: int, step: int, *, exact: bool) -> None:
        upto = "" if exact else "up to "
        super().__init__(f"loss of epoch {epoch + 1}, {upto}step {step}, is not a number")
        self.epoch = epoch
        self.exact = exact


def roll_back(trainer: Any, lost: LossLost) -> None:
    """Put the trainer back to its last good state with half the rate, and say so.

    Raises:
        LossNotFinite: it was put back often enough.
    """
    names = [one.rsplit("/", 1)[-1] for one in trainer.last_images[:_NAMES]] if lost.exact else []
    why = str(lost) + (f"; images {', '.join(names)}" if names else "")
    if trainer.rollbacks >= MOST_ROLLBACKS:
        raise LossNotFinite(
            expected="a loss that is a number", got=f"{why}, after {MOST_ROLLBACKS} rollbacks with the rate"
            f" at {trainer.rate_scale:g} of the plan's", where=str(trainer.job.out),
        )  # fmt: skip
    scale = trainer.rate_scale / 2
    state, _ = checkpoint.newest_checkpoint(trainer.job.out, trainer.fingerprint, unwrap_model(trainer.model))
    if state is None:
        _begin_again(trainer)
    else:
        checkpoint.restore(trainer, state)
    trainer.rollbacks += 1
    trainer.rate_scale = scale
    trainer.bad_loss = torch.zeros_like(trainer.bad_loss)
    trainer.optimizer.zero_grad()
    place = trainer.place
    data = {"why": why, "images": place.images, "rate_scale": scale, "rollback": trainer.rollbacks}
    trainer.emit(BackendEvent("rollback", place.epoch, data))


def _begin_again(trainer: Any) -> None:
    """Stand where the run began: its start weights, an optimizer without memory."""
    model = unwrap_model(trainer.model)
    model.load_state_dict(trainer.start_weights)
    model.criterion = masked_criterion(model)
    trainer.ema.ema.load_state_dict(trainer.start_weights)
    trainer.ema.updates = 0
    trainer.optimizer.state.clear()
    trainer.place.losses.clear()
    trainer.place.go_to(0, 0)
