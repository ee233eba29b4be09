"""Write into W&B: who asks for it by setting installs `wandb`, and logs in by environment or ~/.netrc.

Of ultralytics' W&B callbacks only the one for losses and rates is used: those around it look for plots and a
validator's speed, which our trainer does not have, and resume a run by the newest folder on disk.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fleet_contracts.training import Tracking
from trainer.tracking.scribe import Entry


def wandb_is_installed() -> bool:
    """Tell whether W&B's package is here."""
    return find_spec("wandb") is not None


class WandbBook:
    """Write into one W&B run, which bears our run's name, so that a restart goes on in it."""

    name = "W&B"

    def __init__(self, where: Tracking, args: dict[str, Any], out: Path) -> None:
        self._where = where
        self._args = args
        self._out = out
        self._seen = SimpleNamespace(tloss={}, epoch=0, lr={})

    def open(self) -> None:
        """Begin the run, or go on with it."""
        os.environ.update(
            WANDB_MODE=self._where.wandb_mode,
            WANDB_SILENT="true",
            WANDB_CONSOLE="off",
            WANDB_DISABLE_GIT="true",
            WANDB_DISABLE_CODE="true",
            WANDB_ERROR_REPORTING="false",
        )
        import wandb
        from ultralytics.utils.callbacks import wb

        wb.wb = wandb  # theirs is None where it thinks it runs in a test
        wandb.init(
            project=self._where.wandb_project, id=self._where.run_id, name=self._where.run_id, resume="allow",
            dir=str(self._out), config=self._args,
        )  # fmt: skip
        for prefix in ("train", "lr", "val", "whetstone"):
            wandb.run.define_metric(f"{prefix}/*", step_metric="epoch")

    def write(self, entry: Entry) -> None:
        """Have the callback write losses and rates, and add what we measured."""
        import wandb
        from ultralytics.utils.callbacks import wb

        self._seen.epoch = entry.epoch - 1  # the callback counts from 0 and adds one
        self._seen.lr = entry.rates
        self._seen.label_loss_items = lambda *_, prefix="train": {
            f"{prefix}/{name}": value for name, value in entry.losses.items()
        }
        wb.on_train_epoch_end(self._seen)
        wandb.run.log({**entry.val, **entry.ours, "epoch": entry.epoch}, commit=True)

    def close(self) -> None:
        """End this process's part of the run."""
        import wandb

        wandb.finish()
