"""Take one real training step of a detection network under the ledger, at a small setting."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn
from ultralytics.utils.torch_utils import ModelEMA

from trainer.ultralytics_backend.losses import masked_criterion
from trainer.ultralytics_backend.tracing.autocast import CudaAutocast
from trainer.ultralytics_backend.tracing.ledger import Ledger, key_of

_CLIP = 10.0
"""The gradient's norm that ultralytics clips at."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Describe a small batch: the side of its images in pixels and how many boxes each of them holds."""

    side: int
    boxes: tuple[int, ...]

    def batch(self, classes: int) -> dict[str, torch.Tensor]:
        """Return random images, as bytes, and boxes of many sizes."""
        random = torch.Generator().manual_seed(self.side * 1009 + sum(self.boxes))
        total = sum(self.boxes)
        sides = torch.rand(total, 2, generator=random) * 0.5 + 0.15
        centres = sides / 2 + torch.rand(total, 2, generator=random) * (1 - sides)
        images = [torch.full((count,), float(number)) for number, count in enumerate(self.boxes)]
        shape = (len(self.boxes), 3, self.side, self.side)
        return {
            "img": torch.randint(0, 256, shape, generator=random, dtype=torch.uint8),
            "batch_idx": torch.cat(images),
            "cls": torch.randint(0, classes, (total, 1), generator=random).float(),
            "bboxes": torch.cat([centres, sides], 1),
        }


class Batches(Protocol):
    """Make the batch of a step; a `Setting` does."""

    def batch(self, classes: int) -> dict[str, torch.Tensor]:
        """Return images and boxes as a data loader would."""


class Stage:
    """Hold a network ready to be stepped: in training, with its criterion and averaged copy."""

    def __init__(self, model: nn.Module, classes: int, frozen: int) -> None:
        from ultralytics.cfg import get_cfg

        self.model: Any = model.to(memory_format=torch.channels_last).train()
        self.classes = classes
        self.optimize: Callable[[], object] | None = None
        """The optimizer's step, where it is to be traced with the rest; profiles hold it apart."""
        self.model.args = get_cfg()
        _freeze(self.model, frozen)
        self.criterion = masked_criterion(self.model)
        self.ema = ModelEMA(self.model)
        self.ema.update(self.model)  # its first update makes lists that later ones do not
        held = (*model.parameters(), *model.buffers(), *self.ema.ema.state_dict().values())
        self.storages = {key_of(tensor) for tensor in held}

    def step(self, setting: Batches, *, mixed: bool) -> Ledger:
        """Train one batch and return what lived when."""
        ledger = Ledger(self.storages)
        raw = setting.batch(self.classes)
        criterion = copy.copy(self.criterion)
        with ledger:
            ledger.enter("batch", "batch")
            with CudaAutocast() if mixed else nullcontext():
                batch = _on_device(raw)
                ledger.enter("forward", "activations")
                preds = self.model(batch["img"])
                ledger.enter("loss", "loss")
                loss, items = criterion(preds, batch)
                total = loss.sum()
                del preds, loss
            ledger.enter("backward", "activations")
            total.backward()
            _name_gradients(ledger, self.model)
            ledger.enter("optimizer", "optimizer")
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), max_norm=_CLIP)
            if self.optimize is not None:
                self.optimize()
            self.model.zero_grad(set_to_none=True)
            ledger.enter("ema", "ema")
            self.ema.update(self.model)
        del batch, items, total
        return ledger

    def validation(self, setting: Setting) -> Ledger:
        """Measure the loss of a batch with the averaged weights, as training does between epochs."""
        ledger = Ledger(self.storages)
        raw = setting.batch(self.classes)
        averaged: Any = self.ema.ema
        criterion = copy.copy(self.criterion)
        with torch.no_grad(), ledger:
            ledger.enter("validation", "batch")
            batch = _on_device(raw)
            ledger.enter("validation", "activations")
            preds = averaged(batch["img"])
            ledger.enter("validation", "loss")
            criterion(preds, batch)
            del preds
        return ledger


def _on_device(raw: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Do what the trainer does with a batch; each clone stands for a copy to the card."""
    batch = {name: tensor.clone() for name, tensor in raw.items()}
    batch["img"] = batch["img"].float() / 255
    batch["img"] = batch["img"].contiguous(memory_format=torch.channels_last)
    return batch


def _freeze(model: nn.Module, frozen: int) -> None:
    """Freeze the first layers and the fixed projection, as ultralytics does."""
    heads = tuple(f"model.{number}." for number in range(frozen))
    for name, parameter in model.named_parameters():
        parameter.requires_grad = ".dfl" not in name and not name.startswith(heads)


def _name_gradients(ledger: Ledger, model: nn.Module) -> None:
    for parameter in model.parameters():
        life = ledger.life_of(parameter.grad) if parameter.grad is not None else None
        if life is not None:
            life.term = "gradients"
