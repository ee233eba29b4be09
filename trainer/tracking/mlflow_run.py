"""Find the one MLflow run that a run of ours has, and keep MLflow's client from waiting for minutes.

mlflow is optional and slow to import, so it is imported within the functions.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from trainer.tracking.measures import RUN_TAG

_SQLITE = "sqlite:///"
_CALM = {
    # Off before the first import; `DO_NOT_TRACK=1`, which Prefect takes, is not enough for MLflow.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # By MLflow's own values a call to a dead port takes four minutes, one to a silent host much longer.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # A machine without git must not be told so at import.
    "GIT_PYTHON_REFRESH": "quiet",
}


def is_installed() -> bool:
    """Tell whether MLflow's client is here (`mlflow-skinny` is enough)."""
    return find_spec("mlflow") is not None


def calm_mlflow() -> None:
    """Set what MLflow reads from the environment; before it is imported."""
    os.environ.update(_CALM)


def open_client(uri: str) -> Any:
    """Return a client of a tracking store; nothing is asked of the store yet, but a new file is filled."""
    calm_mlflow()
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def run_named(client: Any, *, uri: str, experiment: str, run_id: str) -> str:
    """Return MLflow's id of our run, made at the first call.

    Trainer and cloud side may both ask first. Whoever finds that it made a second one deletes it: the oldest
    counts for everybody.
    """
    place = _experiment(client, uri, experiment)
    found = _runs(client, place, run_id)
    if found:
        return found[0]
    made = client.create_run(place, run_name=run_id, tags={RUN_TAG: run_id})
    own = str(made.info.run_id)
    first = next(iter(_runs(client, place, run_id)), own)
    if first != own:
        client.delete_run(own)
    return first


def _experiment(client: Any, uri: str, name: str) -> str:
    from mlflow.exceptions import MlflowException

    known = client.get_experiment_by_name(name)
    if known is None:
        try:
            return str(client.create_experiment(name, artifact_location=_artifacts(uri)))
        except MlflowException:
            # The other side made it in between; if it did not, the store's own words are the better ones.
            known = client.get_experiment_by_name(name)
            if known is None:
                raise
    return str(known.experiment_id)


def _runs(client: Any, experiment_id: str, run_id: str) -> list[str]:
    found = client.search_runs([experiment_id], f"tags.`{RUN_TAG}` = '{run_id}'", max_results=100)
    return [one.info.run_id for one in sorted(found, key=lambda one: (one.info.start_time, one.info.run_id))]


def _artifacts(uri: str) -> str | None:
    """Return where artifacts lie: beside an embedded store's file, else where the server wants them."""
    if not uri.startswith(_SQLITE):
        return None
    # Left to itself MLflow would take ./mlruns of whatever process comes first.
    return (Path(uri.removeprefix(_SQLITE)).parent / "artifacts").as_uri()
