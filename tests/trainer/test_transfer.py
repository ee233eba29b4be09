"""Fetch and report over a line that breaks: resumable, verified, renewed, and never in training's way."""

from __future__ import annotations

import functools
import hashlib
import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from fleet_contracts.base import decode, encode, utc_now
from fleet_contracts.training import RunRecord, TicketObject
from tests.helpers import wait_until
from tests.trainer.store import RunStore
from trainer.errors import TicketRefused, TransferFailed, WrongContent
from trainer.fetch import ATTEMPTS, Fetcher
from trainer.journal import Journal
from trainer.report_back import (
    CheckpointNote,
    Reporter,
    fetch_checkpoint,
    fetch_newest,
    read_note,
    slot_after,
)
from trainer.ticket_desk import TicketDesk
from trainer.wire import HttpWire, WireDown


@pytest.fixture
def store() -> RunStore:
    """Return a store with a run in it."""
    return RunStore(b"weights")


def fetcher_for(store: RunStore, folder: Path) -> Fetcher:
    """Return a fetcher that does not sleep."""
    return Fetcher(TicketDesk(store.ticket(), store.wire), folder, pause=lambda _: None)


def test_a_broken_download_goes_on_where_it_broke(store: RunStore, tmp_path: Path) -> None:
    """The second attempt asks for the rest alone, and the file is whole."""
    store.wire.cuts = [700]
    wanted = store.ticket().shards[0]
    file = fetcher_for(store, tmp_path).object(wanted)
    starts = [start for verb, url, start in store.wire.log if verb == "GET" and "shard-0" in url]
    assert starts == [0, 700]
    assert hashlib.sha256(file.read_bytes()).hexdigest() == wanted.sha256


def test_what_is_in_the_cache_is_not_fetched_again(store: RunStore, tmp_path: Path) -> None:
    """An object that lies under its hash costs no request."""
    wanted = store.ticket().shards[0]
    fetcher_for(store, tmp_path).object(wanted)
    store.wire.log.clear()
    fetcher_for(store, tmp_path).object(wanted)
    assert store.wire.log == []


def test_wrong_content_never_takes_its_name(store: RunStore, tmp_path: Path) -> None:
    """Bytes with another hash are thrown away and told, after one more chance."""
    wanted = store.ticket().shards[0]
    store.put("shard-0", b"x" * wanted.size_bytes)
    with pytest.raises(WrongContent, match="shard-0"):
        fetcher_for(store, tmp_path).object(wanted)
    assert list(tmp_path.iterdir()) == []


def test_endless_data_is_cut(store: RunStore, tmp_path: Path) -> None:
    """A store that sends more than was promised fills no disk."""
    wanted = store.ticket().shards[0]
    store.put("shard-0", b"x" * wanted.size_bytes * 50)
    with pytest.raises(WrongContent):
        fetcher_for(store, tmp_path).object(wanted)


def test_a_store_that_stays_away_ends_the_attempts(store: RunStore, tmp_path: Path) -> None:
    """After all attempts the error names the object and says what to check; the URL stays secret."""
    store.wire.away = True
    with pytest.raises(TransferFailed, match=f"within {ATTEMPTS} attempts") as caught:
        fetcher_for(store, tmp_path).object(store.ticket().shards[0])
    assert "signature" not in str(caught.value)
    assert "reaches the object store" in caught.value.diagnostics()


def test_a_refused_url_is_asked_for_again_with_a_renewed_ticket(store: RunStore) -> None:
    """HTTP 403 means a URL whose time is over: the ticket's own object is read again."""
    old = store.ticket()
    store.put("other/run.json", b"{}")
    fresh = old.model_copy(update={"get_urls": {**old.get_urls, "run.json": store.url("other/run.json")}})
    store.put("ticket.json", encode(fresh))
    store.wire.forbidden.add(store.url("run.json"))
    assert TicketDesk(old, store.wire).read("run.json") == b"{}"


def test_a_ticket_about_to_end_is_renewed_before_it_does(store: RunStore) -> None:
    """Within five minutes of its end the ticket is replaced by the one the flow wrote."""
    desk = TicketDesk(store.ticket(minutes=2), store.wire)
    assert desk.current().expires_at - utc_now() > timedelta(minutes=30)


def test_a_ticket_of_another_run_is_not_taken(store: RunStore) -> None:
    """A renewed ticket must be of the same run; the old one is kept."""
    other = store.ticket().model_copy(update={"run_id": "run-" + "0" * 16})
    store.put("ticket.json", encode(other))
    old = store.ticket(minutes=1)
    assert TicketDesk(old, store.wire).current() == old


def test_a_name_the_ticket_does_not_allow_is_refused(store: RunStore) -> None:
    """Only the fixed set of objects can be written."""
    with pytest.raises(TicketRefused, match=r"extra\.bin"):
        TicketDesk(store.ticket(), store.wire).put("extra.bin", b"")


def journal_of(store: RunStore) -> Journal:
    """Return a fresh journal of the store's run."""
    return Journal(store.plan, None, 0)


def test_checkpoints_alternate_and_the_note_comes_last(store: RunStore, tmp_path: Path) -> None:
    """Whatever moment the machine dies, the note names a slot that is whole."""
    file, journal = tmp_path / "checkpoint.pt", journal_of(store)
    with Reporter(TicketDesk(store.ticket(), store.wire)) as reporter:
        for epoch in (1, 2, 3):
            file.write_bytes(f"state {epoch}".encode())
            reporter.checkpoint(file, stage=0, epoch=epoch, record=journal.record)
            wait_until(
                lambda e=epoch: f'"epoch":{e}'.encode() in (store.get("checkpoint.json") or b""), 10, "note"
            )
    puts = [url for verb, url, _ in store.wire.log if verb == "PUT" and "run.json" not in url]
    order = ["checkpoint-a.pt", "checkpoint.json", "checkpoint-b.pt", "checkpoint.json", "checkpoint-a.pt",
             "checkpoint.json"]  # fmt: skip
    assert puts == [store.url(name) for name in order]
    note = read_note(TicketDesk(store.ticket(), store.wire))
    assert note is not None
    assert slot_after(note) == 1
    assert fetch_checkpoint(
        TicketDesk(store.ticket(), store.wire), note, tmp_path / "elsewhere" / "checkpoint.pt"
    )
    assert (tmp_path / "elsewhere" / "checkpoint.pt").read_bytes() == b"state 3"


def test_a_slot_that_is_not_what_the_note_says_is_not_taken(store: RunStore, tmp_path: Path) -> None:
    """A slot overwritten after its note was written is refused by its hash."""
    desk = TicketDesk(store.ticket(), store.wire)
    store.put("checkpoint-a.pt", b"newer bytes")
    note = CheckpointNote(slot="checkpoint-a.pt", stage=0, epoch=1, sha256="0" * 64, size_bytes=11)
    assert not fetch_checkpoint(desk, note, tmp_path / "checkpoint.pt")
    assert not (tmp_path / "checkpoint.pt").exists()


def test_the_slot_before_is_taken_where_the_newest_is_not_whole(store: RunStore, tmp_path: Path) -> None:
    """A newest upload that is torn is refused with its name; the run goes on from the one before and spares it."""
    file, journal = tmp_path / "checkpoint.pt", journal_of(store)
    with Reporter(TicketDesk(store.ticket(), store.wire)) as reporter:
        for epoch in (1, 2):
            file.write_bytes(f"state {epoch}".encode())
            reporter.checkpoint(file, stage=0, epoch=epoch, record=journal.record)
            wait_until(
                lambda e=epoch: f'"epoch":{e}'.encode() in (store.get("checkpoint.json") or b"")[:99],
                10,
                "note",
            )
    store.put("checkpoint-b.pt", b"state")
    desk = TicketDesk(store.ticket(), store.wire)
    note = read_note(desk)
    assert note is not None
    taken, refused = fetch_newest(desk, note, lambda stage: tmp_path / f"stage-{stage}" / "checkpoint.pt")
    assert taken is not None
    assert (taken.slot, taken.epoch) == ("checkpoint-a.pt", 1)
    assert refused == ["checkpoint-b.pt of epoch 2 is not what was uploaded"]
    assert (tmp_path / "stage-0" / "checkpoint.pt").read_bytes() == b"state 1"
    with Reporter(desk, next_slot=slot_after(note), before=note) as reporter:
        reporter.goes_on_from(taken)
        reporter.checkpoint(file, stage=0, epoch=3, record=journal.record)
        wait_until(lambda: b'"epoch":3' in (store.get("checkpoint.json") or b""), 10, "note")
    assert store.get("checkpoint-a.pt") == b"state 1"
    after = read_note(desk)
    assert after is not None
    assert after.previous is not None
    assert (after.slot, after.previous.slot, after.previous.epoch) == (
        "checkpoint-b.pt",
        "checkpoint-a.pt",
        1,
    )


def test_events_wait_for_a_store_that_is_away(store: RunStore) -> None:
    """Training goes on while the store is away, and no event is lost or out of order."""
    journal = journal_of(store)
    store.wire.away = True
    with Reporter(TicketDesk(store.ticket(), store.wire)) as reporter:
        for epoch in range(4):
            reporter.event(journal.event("epoch", epoch))
        wait_until(lambda: any(verb == "PUT" for verb, _, _ in store.wire.log), 10, "an attempt")
        assert store.events() == []
        store.wire.away = False
        wait_until(lambda: len(store.events()) == 4, 20, "all events")


def test_results_are_not_given_up_while_the_store_comes_back(store: RunStore) -> None:
    """Final results insist until the store is there again, and keep their order."""
    store.wire.away = True
    threading.Timer(0.5, lambda: setattr(store.wire, "away", False)).start()
    with Reporter(TicketDesk(store.ticket(), store.wire), give_up_seconds=30.0) as reporter:
        reporter.results([("model.onnx", b"m"), ("result.json", b"r")])
    kept = [url for verb, url, _ in store.wire.log if verb == "PUT"]
    assert kept[-2:] == [store.url("model.onnx"), store.url("result.json")]
    assert store.get("result.json") == b"r"


def test_results_that_cannot_be_sent_say_where_they_lie(store: RunStore) -> None:
    """When the store stays away the error says that nothing is lost."""
    store.wire.away = True
    with (
        Reporter(TicketDesk(store.ticket(), store.wire), give_up_seconds=0.0) as reporter,
        pytest.raises(TransferFailed, match=r"model\.onnx") as caught,
    ):
        reporter.results([("model.onnx", b"m")])
    assert "work folder" in caught.value.diagnostics()


def test_an_unreadable_note_is_as_good_as_none(store: RunStore) -> None:
    """A note that does not parse costs the resume, not the run."""
    store.put("checkpoint.json", b"{half")
    assert read_note(TicketDesk(store.ticket(), store.wire)) is None


def test_a_record_goes_on_after_a_restart(store: RunStore) -> None:
    """A repeated epoch replaces its first telling, and event numbers continue."""
    from trainer.backend_job import BackendEvent

    data = {
        "seconds": 1.0,
        "images_per_second": 2.0,
        "learning_rate": 0.1,
        "losses": {},
        "peak_memory_bytes": 0,
    }
    first = journal_of(store)
    for epoch in (1, 2):
        first.heard(BackendEvent("epoch", epoch, data), stage=0)
    later = Journal(store.plan, decode(RunRecord, encode(first.record), where="run.json"), 2)
    event = later.heard(BackendEvent("epoch", 2, data), stage=0)
    assert event.number == 2
    assert [row.epoch for row in later.record.epochs] == [1, 2]


class _Flaky(BaseHTTPRequestHandler):
    """Serve one object with ranges; break off the first answer half way; keep what is put."""

    kept: dict[str, bytes]
    broken: list[int]

    def do_GET(self) -> None:
        content = self.kept.get(self.path)
        if content is None:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        asked = self.headers.get("Range")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        whole = content[start:]
        cut = not self.broken
        self.broken.append(start)
        self.wfile.write(whole[: len(whole) // 2] if cut else whole)
        self.close_connection = True

    def do_PUT(self) -> None:
        self.kept[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def test_the_real_wire_resumes_over_http(store: RunStore, tmp_path: Path) -> None:
    """Over real HTTP a broken answer is continued by range and a put is kept."""
    content = bytes(range(256)) * 4000
    handler = type("Handler", (_Flaky,), {"kept": {"/shard": content}, "broken": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=functools.partial(server.serve_forever, 0.05), daemon=True).start()
    base = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        wanted = TicketObject(name="shard", url=f"{base}/shard", size_bytes=len(content),
                              sha256=hashlib.sha256(content).hexdigest())  # fmt: skip
        ticket = store.ticket().model_copy(
            update={"shards": (wanted,), "put_urls": {"run.json": f"{base}/run.json"}}
        )
        desk = TicketDesk(ticket, HttpWire(connect_seconds=5, read_seconds=5))
        assert Fetcher(desk, tmp_path, pause=lambda _: None).object(wanted).read_bytes() == content
        assert handler.broken[1] > 0
        desk.put("run.json", b"{}")
        assert handler.kept["/run.json"] == b"{}"
    finally:
        server.shutdown()
        server.server_close()


def test_the_real_wire_tells_a_dead_host_apart(store: RunStore) -> None:
    """A port nobody listens on is an absent line, for reading and writing."""
    from tests.helpers import free_port

    wire = HttpWire(connect_seconds=2, read_seconds=2)
    url = f"http://127.0.0.1:{free_port()}/x"
    with pytest.raises(WireDown):
        wire.get(url)
    with pytest.raises(WireDown):
        wire.put(url, b"")
