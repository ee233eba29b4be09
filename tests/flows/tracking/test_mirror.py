"""Mirror a run while a flow works on it: an outage fails nothing, and the end makes up for it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from pydantic import ValidationError

from flows.context import Context
from flows.errors import CannotStart, SettingsError
from flows.gpus.local import LocalProvider
from flows.retrain.progress import rung_words
from flows.settings import Settings, TrackingSettings, load_settings, write_settings
from flows.store import MemoryStore
from flows.tracking import mirror as mirroring
from flows.tracking.memory import MemoryTracker
from flows.tracking.mirror import mirrored, mirrored_in_the_end
from flows.tracking.place import tracker_of, tracking_of
from tests.flows.kit import TASK
from tests.flows.tracking.seeded import FAILED, NEW, T4, epoch_events, event, record, seed
from tests.helpers import wait_until


@pytest.fixture
def tracker(monkeypatch: pytest.MonkeyPatch) -> MemoryTracker:
    """Have runs mirrored into memory."""
    made = MemoryTracker()
    monkeypatch.setattr(mirroring, "tracker_of", lambda *_: made)
    return made


def test_a_run_is_there_while_it_trains_and_whole_after(ctx: Context, tracker: MemoryTracker) -> None:
    """The trainer finds the run by its name; epochs come as they are told; the end completes the rest."""
    seed(ctx)
    with mirrored(ctx, TASK, NEW) as mirror:
        wait_until(lambda: NEW in tracker.files, 10, "the run in the store")
        before = dict(tracker.points[NEW])
        for told in epoch_events(record()):
            mirror.heard(told)
        mirror.heard(event(4, "rung", data={"rung": "batch", "reason": "out of memory"}))
        mirror.heard(event(4, "exported"))
        wait_until(lambda: "whetstone.rung_now" in tracker.tags[NEW], 10, "the rung in the store")
        assert tracker.points[NEW] == before, "an epoch's event says what the record says"
        assert tracker.tags[NEW]["whetstone.rung_now"] == "epoch 4: batch; out of memory"
    assert tracker.status[NEW] == "FINISHED"
    assert set(tracker.files[NEW]) == {"plan.json", "run.json", "gate.json", "gate.md"}
    assert tracker.tags[NEW]["whetstone.task"] == TASK


def test_what_a_machine_wrote_into_an_event_fails_nothing(
    ctx: Context, tracker: MemoryTracker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Odd values are told in the log and leave the run alone, in the mirror as in the flow's own lines."""
    seed(ctx)
    odd = event(4, "rung", data={"rung": 7, "changed": {"batch": 3, "amp": [1], "cache": ["ram", "disk"]}})
    assert rung_words(odd.data).startswith("cache ram -> disk")

    def broken(_: object) -> None:
        raise TypeError("no number")

    monkeypatch.setattr(mirroring, "picture_of_event", broken)
    monkeypatch.setattr(mirroring, "story_of", lambda *_: broken(None))
    with mirrored(ctx, TASK, NEW) as mirror:
        mirror.heard(odd)
    assert "tracking.event_not_read" in caplog.text
    assert "tracking.not_gathered" in caplog.text


def test_an_outage_fails_nothing_and_the_end_makes_up_for_it(
    ctx: Context, tracker: MemoryTracker, caplog: pytest.LogCaptureFixture
) -> None:
    """While the store is away nothing waits for it; when the flow ends everything is written."""
    seed(ctx)
    tracker.away = True
    with mirrored(ctx, TASK, NEW) as mirror:
        wait_until(lambda: tracker.calls > 0, 10, "a refused call")
        began = time.monotonic()
        for told in epoch_events(record()):
            mirror.heard(told)
        assert time.monotonic() - began < 1.0
        tracker.away = False
    assert ("whetstone/train/box_loss", 6, 2.0 / 6) in tracker.points[NEW]
    assert tracker.status[NEW] == "FINISHED"
    assert [one.getMessage() for one in caplog.records if "tracking.away" in one.getMessage()]


def test_an_outage_at_the_end_hides_no_error_of_the_flow(
    ctx: Context, tracker: MemoryTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The flow's own error comes out as it is, tracked or not, and with the bucket away too."""
    seed(ctx)
    monkeypatch.setattr(mirroring.Mirror.close, "__defaults__", (0.1,))
    for away in (False, True):
        with pytest.raises(CannotStart):
            _failing(ctx, tracker, away=away)
    assert tracker.calls >= 2


def _failing(ctx: Context, tracker: MemoryTracker, *, away: bool) -> None:
    with mirrored_in_the_end(ctx, TASK, NEW), mirrored(ctx, TASK, NEW):
        assert isinstance(ctx.store, MemoryStore)
        tracker.away = ctx.store.away = away
        raise CannotStart(expected="a start", got="none", where="here")


def test_the_end_is_mirrored_though_the_flow_failed(ctx: Context, tracker: MemoryTracker) -> None:
    """What closed a run is in the store: its state and its reason."""
    seed(ctx)
    with pytest.raises(CannotStart), mirrored_in_the_end(ctx, TASK, FAILED):
        raise CannotStart(expected="a start", got="none", where="here")
    assert tracker.status[FAILED] == "FAILED"
    assert "out of luck" in tracker.tags[FAILED]["whetstone.reason"]


def test_settings_that_name_no_store_stop_no_flow(ctx: Context, tmp_path: Path) -> None:
    """A credentials file that is not there is told to who asks for tracking, not to a flow."""
    asked = with_tracking(ctx, mlflow=True, credentials_file=tmp_path / "none.json")
    with pytest.raises(SettingsError, match="none.json"):
        tracker_of(asked, TASK)
    with mirrored(asked, TASK, NEW) as mirror:
        mirror.heard(event(1, "epoch"))
    assert tracker_of(with_tracking(ctx, mlflow=False), TASK) is None


def test_credentials_come_from_a_file_and_never_from_settings(
    ctx: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They go where MLflow looks for them; what the environment says already stands; a URI may hold none."""
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ana")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "")
    monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD")
    file = tmp_path / "mlflow.json"
    file.write_text(json.dumps({"username": "other", "password": "correct-horse"}))
    asked = with_tracking(ctx, mlflow_uri="https://mlflow.example", credentials_file=file)
    assert tracker_of(asked, TASK) is not None
    assert os.environ["MLFLOW_TRACKING_USERNAME"] == "ana"
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == "correct-horse"
    told = tracking_of(asked, TASK, LocalProvider(tmp_path).offers()[0])
    assert told is not None
    assert "correct-horse" not in told.model_dump_json()


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("https://ana:secret@mlflow.example", "user or password"),
        ("https://token@mlflow.example", "user or password"),
        ("postgresql://ana:secret@db/mlflow", "user or password"),
        ("postgresql://db/mlflow?user=ana&password=secret", "password or token"),
        ("https://mlflow.example/?access_token=secret", "password or token"),
        ("file:///srv/mlruns", "maintenance mode"),
        ("/srv/mlruns", "maintenance mode"),
        ("sqlite:///mlflow.db", "relative"),
    ],
)
def test_addresses_that_cannot_be_are_refused(uri: str, told: str) -> None:
    """Secrets in an address, MLflow's folders of files and relative files are refused with the reason."""
    with pytest.raises(ValidationError, match=told) as refused:
        TrackingSettings(mlflow_uri=uri)
    assert "secret" not in " ".join(item["msg"] for item in refused.value.errors())


def test_only_this_machine_is_told_where_to_track(ctx: Context, tmp_path: Path) -> None:
    """A rented machine has its ticket and no address; this one gets the folder's own store and W&B if asked."""
    here = LocalProvider(tmp_path).offers()[0]
    asked = with_tracking(ctx, mlflow=True, wandb_project="plates", wandb_mode="offline")
    told = tracking_of(asked, TASK, here)
    assert told is not None
    assert told.mlflow_uri == f"sqlite:///{ctx.folder.resolve()}/tracking/mlflow.db"
    assert (told.mlflow_experiment, told.wandb_project, told.wandb_mode) == (
        "whetstone/plates",
        "plates",
        "offline",
    )
    assert tracking_of(asked, TASK, T4) is None
    assert tracking_of(asked, TASK, None) is None
    assert tracking_of(with_tracking(ctx, mlflow=False), TASK, here) is None


def test_settings_are_kept_in_the_file(tmp_path: Path) -> None:
    """The section is written and read back like every other."""
    tracking = TrackingSettings(mlflow_uri="https://mlflow.example", wandb_project="plates")
    write_settings(tmp_path, Settings(tracking=tracking))
    assert load_settings(tmp_path).tracking == tracking


def with_tracking(ctx: Context, **changes: object) -> Context:
    """Return the installation with its tracking set."""
    settings = ctx.settings.model_copy(update={"tracking": TrackingSettings.model_validate(changes)})
    write_settings(ctx.folder, settings)
    return ctx.reread()
