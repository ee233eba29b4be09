"""Hang tracking on a trainer: ultralytics' own callbacks, called from a thread, on values that stand still.

ultralytics' callbacks speak to their servers within the training step, with MLflow's patience of minutes,
and MLflow's gives up for good at the first failure. So they are not registered with the trainer (its settings
stay off): they are called by a `Scribe`, and given what they read of a trainer in place of the trainer.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fleet_contracts.training import Tracking
from trainer.backend_job import BackendEvent, BackendJob
from trainer.tracking import mlflow_run
from trainer.tracking.measures import last_of, measures_of
from trainer.tracking.scribe import Book, Entry, Scribe
from trainer.ultralytics_backend.wandb_book import WandbBook, wandb_is_installed

FOLDER = "tracking"
_ARGS_FILE = "args.yaml"
_ACTIVE = "_mlflow_active"
"""Where the callback notes on a trainer whether it still writes."""


class NotWritten(RuntimeError):
    """Tell that ultralytics' callback could not write; it swallows the reason."""


class MlflowBook:
    """Write into MLflow by ultralytics' callback, into the run that the cloud side writes into too.

    Args:
        where: the store, and the run's name in it.
        args: the trainer's settings; written as parameters, which MLflow never lets change.
        out: the job's folder.
    """

    name = "MLflow"

    def __init__(self, where: Tracking, args: dict[str, Any], out: Path) -> None:
        self._where = where
        self._args = args
        self._out = out
        folder = out / FOLDER / "settings"
        folder.mkdir(parents=True, exist_ok=True)
        # The callback sends the folder of the best weights and what lies in save_dir. Ours hold the settings
        # alone: weights lie in the bucket, and sending them would hold up a training's end.
        self._seen = SimpleNamespace(
            best=folder / "best.pt", save_dir=folder.parent, lr={}, tloss={}, metrics={}, epoch=0
        )
        self._client: Any = None
        self._run = ""

    def open(self) -> None:
        """Find the run, make it this thread's, and have the callback write the settings."""
        where = self._where
        os.environ.update(
            MLFLOW_TRACKING_URI=where.mlflow_uri,
            MLFLOW_EXPERIMENT_NAME=where.mlflow_experiment,
            MLFLOW_RUN=where.run_id,
        )
        self._client = mlflow_run.open_client(where.mlflow_uri)
        self._run = mlflow_run.run_named(
            self._client, uri=where.mlflow_uri, experiment=where.mlflow_experiment, run_id=where.run_id
        )
        import mlflow

        mlflow.set_tracking_uri(where.mlflow_uri)
        if mlflow.active_run() is None:
            mlflow.start_run(run_id=self._run)
        self._seen.args = self._new_args()
        self._call("on_pretrain_routine_end")

    def write(self, entry: Entry) -> None:
        """Have the callback write an epoch's rates and losses."""
        self._seen.epoch, self._seen.lr, self._seen.metrics = entry.epoch, entry.rates, entry.val
        self._seen.label_loss_items = lambda *_, prefix="train": {
            f"{prefix}/{name}": value for name, value in entry.losses.items()
        }
        self._call("on_train_epoch_end")
        self._call("on_fit_epoch_end")

    def close(self) -> None:
        """Have the callback keep the settings' file; the run stays open for later stages and the gate."""
        written = self._out / "ultralytics" / _ARGS_FILE
        if written.is_file():
            (self._seen.best.parent / _ARGS_FILE).write_bytes(written.read_bytes())
        self._call("on_train_end")

    def _new_args(self) -> Any:
        """Return the settings MLflow does not have yet.

        A later stage, or a child after a rung, has others: MLflow would refuse them and the callback give
        up. What a rung changed is told by the cloud side's tags, and stages by the plan.
        """
        from ultralytics.utils import IterableSimpleNamespace

        known = self._client.get_run(self._run).data.params
        return IterableSimpleNamespace(**{name: v for name, v in self._args.items() if name not in known})

    def _call(self, moment: str) -> None:
        from ultralytics.utils.callbacks import mlflow as theirs

        # Whether a run is tracked is the plan's to say, not the environment of whoever started it.
        theirs.TESTS_RUNNING = False
        if moment != "on_pretrain_routine_end":
            vars(self._seen)[_ACTIVE] = True
        theirs.callbacks[moment](self._seen)
        if not vars(self._seen)[_ACTIVE]:
            self._client.get_run(self._run)  # says why, if the store is away
            raise NotWritten(f"ultralytics' callback gave up at {moment}")


def attach(trainer: Any, job: BackendJob) -> None:
    """Track a training, if its job asks for it and the packages are here.

    What goes wrong is told as "watch" events of the kind "tracking", from the trainer's own thread. None of
    it fails the training, and only its end waits, some seconds, for a store that still owes an answer.
    """
    # A job of no run has no name to be found by; of several processes the first one writes.
    if job.tracking is None or not job.tracking.run_id or os.environ.get("RANK", "-1") not in ("-1", "0"):
        return
    emit: Callable[[BackendEvent], None] = trainer.emit
    books, problems = _books(trainer, job, job.tracking)
    scribes = [Scribe(book) for book in books]
    first = job.tracking.first_epoch

    def tell(epoch: int) -> None:
        for why in [*problems, *(why for scribe in scribes for why in scribe.problems())]:
            emit(BackendEvent("watch", epoch, {"kind": "tracking", "why": why}))
        problems.clear()

    def hear(event: BackendEvent) -> None:
        emit(event)
        if event.kind == "epoch":
            entry = entry_of(event, first, _rates(trainer))
            for scribe in scribes:
                scribe.put(entry)
        tell(event.epoch)

    def end(_: Any) -> None:
        for scribe in scribes:
            scribe.close()
        tell(job.epochs)

    trainer.emit = hear
    trainer.add_callback("on_train_end", end)


def entry_of(event: BackendEvent, first_epoch: int, rates: dict[str, float]) -> Entry:
    """Return what is written of an epoch's event."""
    data = event.data
    return Entry(
        epoch=first_epoch + event.epoch,
        rates=rates or {"lr/pg0": float(data.get("learning_rate", 0.0))},
        losses=dict(data.get("losses") or {}),
        val={f"val/{last_of(name)}": value for name, value in (data.get("val") or {}).items()},
        ours=measures_of(data),
    )


def _books(trainer: Any, job: BackendJob, where: Tracking) -> tuple[list[Book[Entry]], list[str]]:
    """Return the stores to write into, and what is asked for in vain."""
    books: list[Book[Entry]] = []
    problems = []
    args = dict(trainer.args)
    for wanted, is_here, make in (
        (where.mlflow_uri, mlflow_run.is_installed, MlflowBook),
        (where.wandb_project, wandb_is_installed, WandbBook),
    ):
        if wanted and is_here():
            books.append(make(where, args, job.out))
        elif wanted:
            problems.append(f"{make.name}: the package is not installed on this machine")
    return books, problems


def _rates(trainer: Any) -> dict[str, float]:
    groups = getattr(getattr(trainer, "optimizer", None), "param_groups", ())
    return {f"lr/pg{number}": float(group["lr"]) for number, group in enumerate(groups)}
