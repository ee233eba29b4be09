"""Decide where runs are tracked: embedded in the installation's folder, on a server, or nowhere.

Only a trainer on this machine writes by itself: a rented one has its ticket and no credentials, and what it
would write is mirrored from its events and its record.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from fleet_contracts.training import GpuOffer, Tracking
from flows.context import Context
from flows.errors import SettingsError
from flows.gpus.local import NAME as THIS_MACHINE
from flows.settings import TrackingSettings
from flows.tracking.base import Tracker
from trainer.tracking.mlflow_run import is_installed

FOLDER = "tracking"
FILE = "mlflow.db"
_VARIABLES = {
    "username": "MLFLOW_TRACKING_USERNAME",
    "password": "MLFLOW_TRACKING_PASSWORD",
    "token": "MLFLOW_TRACKING_TOKEN",
}


def tracker_of(ctx: Context, task_id: str) -> Tracker | None:
    """Return the store a task's runs are mirrored into, None when they are not.

    Credentials of the settings' file go into this process's environment, where MLflow looks for them, and
    from there to trainers on this machine; what the environment says already stands.
    """
    settings = ctx.settings.tracking
    uri = mlflow_uri(ctx.folder, settings)
    if not uri:
        return None
    _take_credentials(ctx, settings)
    from flows.tracking.mlflow_store import MlflowTracker

    if not settings.mlflow_uri:
        (ctx.folder / FOLDER).mkdir(mode=0o700, exist_ok=True)
    return MlflowTracker(uri, experiment_of(settings, task_id))


def tracking_of(ctx: Context, task_id: str, offer: GpuOffer | None) -> Tracking | None:
    """Return what a plan tells its trainer about tracking: nothing, unless it trains on this machine."""
    settings = ctx.settings.tracking
    uri = mlflow_uri(ctx.folder, settings)
    if offer is None or offer.provider != THIS_MACHINE or not (uri or settings.wandb_project):
        return None
    return Tracking(
        mlflow_uri=uri,
        mlflow_experiment=experiment_of(settings, task_id) if uri else "",
        wandb_project=settings.wandb_project,
        wandb_mode=settings.wandb_mode,
    )


def mlflow_uri(folder: Path, settings: TrackingSettings) -> str:
    """Return the store's address, "" where MLflow is switched off or not installed."""
    if not settings.mlflow or not is_installed():
        return ""
    return settings.mlflow_uri or f"sqlite:///{folder.resolve() / FOLDER / FILE}"


def experiment_of(settings: TrackingSettings, task_id: str) -> str:
    """Return the experiment of a task's runs."""
    return settings.mlflow_experiment or f"whetstone/{task_id}"


def _take_credentials(ctx: Context, settings: TrackingSettings) -> None:
    if settings.credentials_file is None:
        return
    path = ctx.path(settings.credentials_file)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = {_VARIABLES[name]: str(value) for name, value in content.items()}
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise SettingsError(
            expected="JSON with 'username' and 'password', or 'token'",
            got=f"{type(error).__name__}: {error}",
            where=str(path),
            now="Write the file, or take tracking.credentials_file out of the settings.",
        ) from error
    for name, value in found.items():
        os.environ.setdefault(name, value)
