"""Close what a person cancelled and nothing else, whatever Prefect says or does not say."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from fleet_contracts import keys
from flows.context import Context
from flows.database.schema import RunRow
from flows.errors import StoreAway
from flows.gpus.leases import LeaseBook
from flows.gpus.memory import MemoryProvider
from flows.gpus.prefect_api import FlowState, PrefectApi, PrefectAway
from flows.retrain import runs, steps, training
from flows.retrain.cancelled import At, Canceller, close_cancelled, close_if_still_of
from flows.retrain.errors import TrainingFailed
from flows.trigger import check_trigger
from tests.flows.kit import TASK, sent_and_labelled
from tests.flows.retrain.test_money import PAID, case_of, sleeping
from tests.helpers import free_port

FLOW, OTHER = "0b5e8d0a-6a4e-4a6e-9d56-0d3f3f1c2a01", "0b5e8d0a-6a4e-4a6e-9d56-0d3f3f1c2a02"


class Known:
    """Know flow runs, and how often one asked."""

    def __init__(self, **states: str) -> None:
        self.states = states
        self.asked: list[str] = []
        self.is_away = False

    def state_of(self, flow_run: str) -> FlowState | None:
        """Return the one state there is."""
        self.asked.append(flow_run)
        if self.is_away:
            raise PrefectAway(expected="an answer", got="none", where="test")
        kind = self.states.get("kind")
        return FlowState(kind, "by hand") if kind else None


@pytest.fixture
def run(ready: Context) -> RunRow:
    """Return a run that a flow works on."""
    begun = steps.begin(ready, TASK).run
    assert begun is not None
    return runs.take_run(ready, begun.run_id, FLOW)


def state_of(ctx: Context, run_id: str) -> str:
    """Return the state of a run."""
    with ctx.database.reader() as session:
        return session.get_one(RunRow, run_id).state


def test_a_persons_word_closes_the_run(ready: Context, run: RunRow) -> None:
    """With its reason, in the database and in the bucket, as soon as it is given."""
    for kind in ("CANCELLING", "CANCELLED"):
        assert close_cancelled(At(ready.database, ready.store), Known(kind=kind)) == (run.run_id,)
        assert state_of(ready, run.run_id) == "cancelled"
        assert steps.begin(ready, TASK, force=True).run is not None
        runs.take_run(ready, run.run_id, FLOW)
    assert b"a person cancelled it in Prefect: by hand" in ready.store.get(keys.journal(TASK, "runs", run.run_id))


def test_a_run_that_is_opened_again_is_no_longer_the_cancelled_flows(ready: Context, run: RunRow) -> None:
    """Between its opening and the new flow's first step the old cancellation must not close it again."""
    known = Known(kind="CANCELLED")
    assert close_cancelled(At(ready.database), known) == (run.run_id,)
    assert steps.begin(ready, TASK, force=True).run is not None
    assert close_cancelled(At(ready.database), known) == ()
    assert state_of(ready, run.run_id) == "active"
    runs.take_run(ready, run.run_id, OTHER)
    assert close_cancelled(At(ready.database), known) == (run.run_id,), "the new flow's own cancellation does"


def test_one_flow_run_prefect_cannot_name_hides_no_other(ready: Context, run: RunRow) -> None:
    """What a broken answer for one run says of the others is nothing: they are asked for too."""
    with ready.database.session() as session:
        row = session.get_one(RunRow, run.run_id)
        columns = {one.name: getattr(row, one.name) for one in RunRow.__table__.columns}
        session.add(RunRow(**{**columns, "run_id": "run-0000000000000000", "task_id": "other", "flow_run": OTHER}))

    class Half(Known):
        def state_of(self, flow_run: str) -> FlowState | None:
            self.is_away = flow_run == OTHER
            return super().state_of(flow_run)

    known = Half(kind="CANCELLED")
    with pytest.raises(PrefectAway):
        close_cancelled(At(ready.database), known)
    assert sorted(known.asked) == [FLOW, OTHER]
    assert state_of(ready, run.run_id) == "cancelled"
    assert state_of(ready, "run-0000000000000000") == "active"


def test_nothing_else_closes_a_run(ready: Context, run: RunRow) -> None:
    """A crash, a lost process and a server that was set up anew leave it to the next attempt."""
    for kind in ("CRASHED", "FAILED", "RUNNING", "PENDING", "PAUSED", "SCHEDULED", "COMPLETED", ""):
        known = Known(kind=kind)
        assert close_cancelled(At(ready.database), known) == ()
        assert known.asked == [FLOW]
    assert state_of(ready, run.run_id) == "active"


def test_a_server_that_is_away_changes_nothing(
    ready: Context, run: RunRow, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told once, and the next round asks again."""
    known = Known(kind="CANCELLED")
    known.is_away = True
    look = Canceller(At(ready.database), known)
    look()
    look()
    assert len(known.asked) == 2
    assert caplog.text.count("retrain.cancellations_not_seen") == 1
    assert state_of(ready, run.run_id) == "active"
    known.is_away = False
    look()
    assert state_of(ready, run.run_id) == "cancelled"


def test_an_attempt_that_took_over_is_not_cancelled(ready: Context, run: RunRow) -> None:
    """The flow run a person cancelled is not the one that works on the run by now."""
    known = Known(kind="CANCELLED")
    asked = known.state_of

    def taken_over(flow_run: str) -> FlowState | None:
        runs.take_run(ready, run.run_id, OTHER)
        return asked(flow_run)

    known.state_of = taken_over  # type: ignore[method-assign]  # another attempt begins while Prefect answers
    assert close_cancelled(At(ready.database), known) == ()
    assert known.asked == [FLOW]
    assert state_of(ready, run.run_id) == "active"
    assert close_if_still_of(ready.database, run.run_id, OTHER, "now it is") is not None


def test_a_bucket_that_is_away_keeps_no_machine_alive(
    ready: Context, run: RunRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record in the bucket is left out; the run is closed all the same."""

    def away(key: str, data: bytes) -> None:
        raise StoreAway(expected="an answer", got="none", where="store")

    monkeypatch.setattr(ready.store, "put", away)
    assert close_cancelled(At(ready.database, ready.store), Known(kind="CANCELLED")) == (run.run_id,)


def test_a_cancelled_run_is_not_asked_for_again_by_itself(ready: Context, run: RunRow) -> None:
    """It waits for as many labels as a first run needs; whoever asks for it by hand has it go on."""
    close_cancelled(At(ready.database), Known(kind="CANCELLED"))
    decision = check_trigger(ready, TASK)
    assert not decision.asked
    assert "a person cancelled the last run" in decision.reason
    again = steps.begin(ready, TASK, force=True).run
    assert again is not None
    assert (again.run_id, again.state) == (run.run_id, "active")
    runs.close_run(ready, run.run_id, "cancelled", "again")
    sent_and_labelled(ready, ready.settings.task(TASK).trigger_threshold, first=100)
    assert check_trigger(ready, TASK).asked


def test_a_flow_that_lives_on_rents_nothing_for_a_cancelled_run(
    ready: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefect's cancellation may not reach the process: it ends by itself at its next look."""
    provider = MemoryProvider(PAID)
    case = case_of(ready, provider, PAID)
    runs.take_run(ready, case.plan.run_id, FLOW)
    fired: list[int] = []

    def cancel(nap: int) -> None:
        if nap == 3:
            fired.append(len(provider.launches))
            close_cancelled(At(ready.database), Known(kind="CANCELLED"))
            for lease in case.book.live():
                provider.terminate(lease.machine)
                case.book.end(lease.lease_id, "its run is closed")

    sleeping(monkeypatch, cancel)
    monkeypatch.setattr(training, "ASK_SECONDS", 0.0)
    with pytest.raises(TrainingFailed, match="closed meanwhile, cancelled: a person cancelled it"):
        case.work().wait()
    assert fired == [1]
    assert len(provider.launches) == 1
    assert LeaseBook(ready.database).live() == ()


class _Server(BaseHTTPRequestHandler):
    answer: tuple[int, bytes] = (200, b"{}")
    asked: list[str] = []  # noqa: RUF012 - one test's

    def do_GET(self) -> None:
        self.asked.append(self.headers.get("Authorization", ""))
        self.send_response(self.answer[0])
        self.end_headers()
        self.wfile.write(self.answer[1])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    """Return a server that answers what it is told to."""
    made = HTTPServer(("127.0.0.1", 0), _Server)
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.shutdown()
    thread.join(10)
    made.server_close()


def test_what_is_no_answer_of_prefects_is_none(server: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy's page, an error and a refused connection all say nothing about the run; 404 says it is unknown."""
    api = PrefectApi(f"http://127.0.0.1:{server.server_address[1]}/api")
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "admin:secret")
    for status, body in ((200, b"<html>"), (200, b"[]"), (500, b"{}"), (401, b'{"detail": "no"}'), (200, b'{"state": 1}')):
        _Server.answer = (status, body)
        with pytest.raises(PrefectAway) as told:
            api.state_of(FLOW)
        assert "secret" not in str(told.value)
    assert _Server.asked[-1].startswith("Basic ")
    _Server.answer = (404, b"{}")
    assert api.state_of(FLOW) is None
    _Server.answer = (200, b'{"state": {"type": "CANCELLED", "message": null}}')
    assert api.state_of(FLOW) == FlowState("CANCELLED")
    with pytest.raises(PrefectAway):
        PrefectApi(f"http://127.0.0.1:{free_port()}/api").state_of(FLOW)


def test_runs_that_no_flow_of_prefects_works_on_are_not_asked_for(ready: Context) -> None:
    """Steps done by hand have no flow run."""
    begun = steps.begin(ready, TASK).run
    assert begun is not None
    runs.take_run(ready, begun.run_id, "test")
    known = Known(kind="CANCELLED")
    assert close_cancelled(At(ready.database), known) == ()
    assert known.asked == []
