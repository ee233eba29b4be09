"""Measure the loss on the validation split with the averaged weights; cheap, and no judgement.

It shows a run that fits its training images and nothing else. The gate judges, through `detection/`.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch.utils.data import DataLoader
from ultralytics.utils.torch_utils import autocast

from trainer.dataset import open_dataset
from trainer.ultralytics_backend import ranks
from trainer.ultralytics_backend.loader import usable_workers
from trainer.ultralytics_backend.losses import masked_criterion
from trainer.ultralytics_backend.place import Losses


class ValidationLoss:
    """Measure every so many epochs what the job asks for.

    Args:
        trainer: whose averaged model, images and number format are used.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._loader: Any = None
        self._criterion: Any = None
        every = trainer.job.validate_every
        self._every = every if every and open_dataset(trainer.job.dataset).val_images else 0

    def measure_if_due(self) -> dict[str, float]:
        """Return the mean of each part of the loss, or nothing when this epoch is not measured."""
        done = self._trainer.epoch + 1
        due = self._every and (done % self._every == 0 or done == self._trainer.epochs)
        if not (due and ranks.is_first()):
            return {}
        self._trainer.enter("validation")
        return self._measure()

    @torch.no_grad()
    def _measure(self) -> dict[str, float]:
        trainer = self._trainer
        model = trainer.ema.ema
        if self._criterion is None:
            self._criterion = masked_criterion(model)
        losses = Losses()
        loader = self._batches()
        for batch in loader:
            with autocast(trainer.number_format, device=trainer.device.type):
                ready = trainer.prepared(batch, loader.dataset.known_classes)
                losses.add(self._criterion(model(ready["img"]), ready)[1])
        return losses.means()

    def _batches(self) -> Any:
        """Return a loader that ends with its pass, so that no process waits through the next epochs."""
        if self._loader is None:
            trainer = self._trainer
            dataset = trainer.build_dataset(trainer.data["val"], "val")
            batch = min(trainer.batch_size // ranks.world(), len(dataset))
            self._loader = DataLoader(
                dataset, batch_size=batch, collate_fn=dataset.collate_fn,
                num_workers=usable_workers(trainer.args.workers, -(-len(dataset) // batch)),
                pin_memory=trainer.device.type == "cuda",
            )  # fmt: skip
        return self._loader


class NoValidator:
    """Stand where ultralytics looks for a validator's metric names."""

    class metrics:  # noqa: N801 - ultralytics reads this attribute
        """Name no metrics."""

        keys: ClassVar[list[str]] = []

    dataloader: Any = None
