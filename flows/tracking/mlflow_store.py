"""Write pictures into MLflow: an embedded file or a server, into the run that the trainer writes into too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, TypeVar

from flows.tracking.base import Picture, Point
from flows.tracking.errors import TrackingAway
from trainer.tracking.measures import OURS
from trainer.tracking.mlflow_run import open_client, run_named

T = TypeVar("T")
_MOST_AT_ONCE = 90
"""Parameters, tags or points in one request; MLflow takes 100 parameters and tags, and 1000 points."""
_LONGEST = 5000
"""Characters of a tag or parameter; MLflow takes 6000 of a parameter and 8000 of a tag."""


class MlflowTracker:
    """Be the tracker of one MLflow experiment.

    Args:
        uri: `sqlite:///...` or a server's URL; credentials come from MLflow's own environment variables.
        experiment: its name; made when it does not exist.
    """

    def __init__(self, uri: str, experiment: str) -> None:
        self._uri = uri
        self._experiment = experiment
        self._client: Any = None
        self._runs: dict[str, _Known] = {}

    def write(self, picture: Picture) -> None:
        """Write what is new in a picture, numbers first and files last."""
        try:
            self._write(picture)
        # Client, server, proxy and file system each raise their own; none of them may reach a flow.
        except Exception as error:
            self._runs.pop(picture.run_id, None)
            raise TrackingAway(
                expected="a tracking store that takes metrics",
                got=f"{type(error).__name__}: {str(error)[:300]}",
                where=self._uri,
            ) from error

    def _write(self, picture: Picture) -> None:
        if picture.params:
            # A whole picture: what others wrote since is read anew, or their points would be written twice.
            self._runs.pop(picture.run_id, None)
        known = self._known(picture.run_id)
        from mlflow.entities import Metric, Param, RunTag

        params = {name: _cut(value) for name, value in picture.params.items() if name not in known.params}
        tags = {name: _cut(value) for name, value in picture.tags.items()}
        tags = {name: value for name, value in tags.items() if known.tags.get(name) != value}
        points = [point for point in picture.points if _key(point) not in known.points]
        for some in _portions([Metric(p.metric, p.value, _ms(p.at), p.step) for p in points]):
            self._client.log_batch(known.name, metrics=some)
        for some in _portions([Param(name, value) for name, value in params.items()]):
            self._client.log_batch(known.name, params=some)
        for some in _portions([RunTag(name, value) for name, value in tags.items()]):
            self._client.log_batch(known.name, tags=some)
        known.params |= params.keys()
        known.tags |= tags
        known.points |= {_key(point) for point in points}
        self._write_status(known, picture)
        for name, text in picture.files.items():
            if known.files.get(name) != text:
                self._client.log_text(known.name, text, f"{OURS}{name}")
                known.files[name] = text

    def _write_status(self, known: _Known, picture: Picture) -> None:
        if picture.status in (None, known.status):
            return
        if picture.status == "RUNNING":
            self._client.update_run(known.name, status="RUNNING")
        else:
            ended = None if picture.ended_at is None else _ms(picture.ended_at)
            self._client.set_terminated(known.name, status=picture.status, end_time=ended)
        known.status = str(picture.status)

    def _known(self, run_id: str) -> _Known:
        """Return what the store has of a run: what other processes wrote counts."""
        if run_id not in self._runs:
            if self._client is None:
                self._client = open_client(self._uri)
            name = run_named(self._client, uri=self._uri, experiment=self._experiment, run_id=run_id)
            self._runs[run_id] = _Known(self._client, name)
        return self._runs[run_id]


class _Known:
    """Hold what the store has of one run."""

    def __init__(self, client: Any, name: str) -> None:
        run = client.get_run(name)
        self.name = name
        self.params = set(run.data.params)
        self.tags = dict(run.data.tags)
        self.status = str(run.info.status)
        self.files: dict[str, str] = {}
        ours = [metric for metric in run.data.metrics if metric.startswith(OURS)]
        self.points = {
            (one.key, one.step, one.value) for key in ours for one in client.get_metric_history(name, key)
        }


def _key(point: Point) -> tuple[str, int, float]:
    return (point.metric, point.step, point.value)


def _portions(items: Sequence[T]) -> Iterator[list[T]]:
    for first in range(0, len(items), _MOST_AT_ONCE):
        yield list(items[first : first + _MOST_AT_ONCE])


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _cut(value: str) -> str:
    return value if len(value) <= _LONGEST else value[: _LONGEST - 3] + "..."
