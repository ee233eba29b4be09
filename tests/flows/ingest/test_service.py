"""Hold the ingest service to the whole dialogue, in memory and over a real broker and store."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import urllib3

from fleet_contracts import decode, encode, topics, utc_now
from fleet_contracts.keys import Incoming
from fleet_contracts.messages import Announcement, Grant, OrderRequest, Receipt
from fleet_contracts.releases import DeviceReport, RolloutOrder
from flows.context import Context
from flows.database.schema import DeviceRow, RolloutRow
from flows.ingest import orders
from flows.ingest.desk import Desk
from flows.ingest.devices import reports_of
from flows.ingest.link import MemoryLink, MqttLink
from flows.ingest.service import Duty, IngestService
from flows.settings import BrokerSettings
from flows.store import MemoryStore
from tests.flows.ingest.brokers import MqttBox, mosquitto
from tests.flows.kit import DEVICE, TASK, SimulatedBox, make_installation, picture, with_task
from tests.flows.store.servers import rclone_store
from tests.helpers import wait_until

SWEEP = Duty("sweep", 0.3, Desk.sweep)


@contextmanager
def serving(ctx: Context, link: MemoryLink | MqttLink, *duties: Duty) -> Iterator[IngestService]:
    """Run the service in a thread of the test."""
    service, stop = IngestService(Desk(ctx, link), link, duties), threading.Event()
    thread = threading.Thread(target=service.run, args=(stop,))
    thread.start()
    try:
        yield service
    finally:
        stop.set()
        thread.join(20)
        assert not thread.is_alive()


def _report(state: str, *, age: float = 0.0, version: int = 1) -> DeviceReport:
    return DeviceReport.model_validate(
        {
            "task_id": TASK,
            "device_id": DEVICE,
            "reported_at": utc_now() - timedelta(seconds=age),
            "agent_version": "0.1.0",
            "state": state,
            "release_version": version,
            "model_id": "a" * 64,
        }
    )


def _outcomes(link: MemoryLink) -> list[str]:
    topic = topics.down(TASK, DEVICE, "receipt")
    receipts = [decode(Receipt, payload, where=heard) for heard, payload in link.sent if heard == topic]
    return [item.outcome for receipt in receipts for item in receipt.items]


def test_the_dialogue_over_a_real_broker_and_store(tmp_path: Path) -> None:
    """Request, grant, PUT, announcement, receipt: a box gets its image into the catalog by URLs alone."""
    (tmp_path / "data").mkdir()
    with rclone_store(tmp_path / "data") as store, mosquitto(tmp_path) as port:
        ctx = make_installation(tmp_path / "installation", store=store)
        link = MqttLink(BrokerSettings(port=port), tmp_path)
        simulated, box = SimulatedBox(ctx), MqttBox(port, TASK, DEVICE)
        content = picture(1)
        example = simulated.describe(content, part="plate-1")
        try:
            with serving(ctx, link, SWEEP):
                box.wait_ready()
                wait_until(link.is_connected, 20, "ingest to be connected")
                request = simulated.request([(example.sample_id, len(content))])
                _ask_until(box, "grant-request", encode(request), "grant")
                grant = decode(Grant, box.newest("grant") or b"", where="grant")
                for url, body in (
                    (grant.uploads[0].image_url, content),
                    (grant.uploads[0].announcement_url, encode(example)),
                ):
                    assert urllib3.request("PUT", url, body=body, retries=False).status == 200
                announced = Announcement(
                    task_id=TASK, device_id=DEVICE, grant_id=grant.grant_id, sample_ids=(example.sample_id,)
                )
                _ask_until(box, "uploaded", encode(announced), "receipt")
                receipt = decode(Receipt, box.newest("receipt") or b"", where="receipt")
                assert receipt.items[0].sample_id == example.sample_id
                assert receipt.items[0].outcome in ("stored", "duplicate")
        finally:
            box.close()
            ctx.database.close()


def _ask_until(box: MqttBox, kind: topics.UpKind, payload: bytes, answer: topics.DownKind) -> None:
    # As a box does: a message is a hint and is said again until it is answered.
    deadline = time.monotonic() + 20
    while box.newest(answer) is None and time.monotonic() < deadline:
        box.say(kind, payload)
        try:
            wait_until(lambda: box.newest(answer) is not None, 2, answer)
        except pytest.fail.Exception:
            continue
    assert box.newest(answer) is not None, f"no {answer}"


def test_ingest_comes_back_when_the_broker_does(tmp_path: Path) -> None:
    """A broker that is restarted delays; the link finds it again by itself."""
    with mosquitto(tmp_path) as port:
        link = MqttLink(BrokerSettings(port=port), tmp_path)
        link.start(lambda _topic, _payload: None)
        wait_until(link.is_connected, 20, "the first connection")
    wait_until(lambda: not link.is_connected(), 20, "the loss to be noticed")
    link.publish("whetstone/v1/x/down/y/grant", b"dropped")
    with mosquitto(tmp_path, port):
        wait_until(link.is_connected, 30, "the second connection")
    link.stop()
    link.stop()


def test_a_lost_announcement_only_delays(ctx: Context) -> None:
    """With no message at all the sweep takes the upload in and sends the receipt."""
    link, box = MemoryLink(), SimulatedBox(ctx)
    content = picture(1)
    box.upload(content, box.describe(content, part="plate-1"))
    with serving(ctx, link, SWEEP):
        wait_until(lambda: _outcomes(link) == ["stored"], 10, "the receipt")


def test_a_store_that_is_away_delays_and_loses_nothing(ctx: Context, memory: MemoryStore) -> None:
    """Ingest lives through an outage and takes everything in afterwards."""
    link, box = MemoryLink(), SimulatedBox(ctx)
    content = picture(1)
    upload = box.upload(content, box.describe(content, part="plate-1"))
    announced = Announcement(
        task_id=TASK, device_id=DEVICE, grant_id=upload.grant_id, sample_ids=(upload.sample_id,)
    )
    memory.away = True
    with serving(ctx, link, SWEEP) as service:
        link.hear(topics.up(TASK, DEVICE, "uploaded"), encode(announced))
        wait_until(lambda: service.desk.counts["away"] >= 2, 10, "the outage to be noticed")
        assert _outcomes(link) == []
        memory.away = False
        wait_until(lambda: _outcomes(link) == ["stored"], 15, "the receipt after the outage")


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        ("whetstone/v1/plates/up/box-1/nonsense", b"{}"),
        ("something/else", b"{}"),
        (topics.up(TASK, DEVICE, "grant-request"), b"{"),
        (topics.up(TASK, DEVICE, "report"), b"\xff\xfe"),
        (topics.up("boards", DEVICE, "report"), b"{}"),
        (topics.up(TASK, "box-2", "report"), encode(_report("serving"))),
    ],
)
def test_bad_messages_are_counted_and_change_nothing(ctx: Context, topic: str, payload: bytes) -> None:
    """Malformed, foreign and misdirected messages are refused; the next good one is served."""
    link = MemoryLink()
    with serving(ctx, link) as service:
        link.hear(topic, payload)
        wait_until(lambda: service.desk.counts["refused"] == 1, 10, "the refusal")
        link.hear(topics.up(TASK, DEVICE, "report"), encode(_report("serving")))
        wait_until(lambda: DEVICE in reports_of(ctx, TASK), 10, "the good report")
    assert set(reports_of(ctx, TASK)) == {DEVICE}
    assert link.sent == []


def test_an_error_nobody_expected_does_not_end_ingest(ctx: Context) -> None:
    """A duty with a bug is counted and logged; messages are served all the same."""

    def broken(_: Desk) -> None:
        raise ZeroDivisionError

    link = MemoryLink()
    with serving(ctx, link, Duty("broken", 60, broken)) as service:
        wait_until(lambda: service.desk.counts["failed"] == 1, 10, "the failure")
        link.hear(topics.up(TASK, DEVICE, "report"), encode(_report("serving")))
        wait_until(lambda: DEVICE in reports_of(ctx, TASK), 10, "the report")


def test_a_grant_of_another_device_is_refused(ctx: Context) -> None:
    """A box cannot announce what another box was granted."""
    link, content = MemoryLink(), picture(1)
    box = SimulatedBox(ctx)
    upload = box.upload(content, box.describe(content, part="plate-1"))
    stolen = Announcement(
        task_id=TASK, device_id="box-2", grant_id=upload.grant_id, sample_ids=(upload.sample_id,)
    )
    with serving(ctx, link) as service:
        link.hear(topics.up(TASK, "box-2", "uploaded"), encode(stolen))
        wait_until(lambda: service.desk.counts["refused"] == 1, 10, "the refusal")
    assert link.sent == []


def test_an_announcement_of_what_is_not_there_gets_no_receipt(ctx: Context) -> None:
    """An announcement proves nothing: without objects nothing is said, and the box asks again."""
    link = MemoryLink()
    upload = Incoming(TASK, "0" * 32, "a" * 64, "image")
    announced = Announcement(
        task_id=TASK, device_id=DEVICE, grant_id=upload.grant_id, sample_ids=(upload.sample_id,)
    )
    with serving(ctx, link) as service:
        link.hear(topics.up(TASK, DEVICE, "uploaded"), encode(announced))
        wait_until(lambda: service.desk.counts["heard.uploaded"] == 1, 10, "the announcement")
    assert link.sent == []


def test_a_task_created_while_ingest_runs_is_served(ctx: Context) -> None:
    """The settings file is read again when it changes."""
    link = MemoryLink()
    with serving(ctx, link) as service:
        with_task(ctx, trigger_threshold=77)
        wait_until(
            lambda: service.desk.ctx.settings.task(TASK).trigger_threshold == 77, 10, "the new settings"
        )


def test_reports_keep_the_newest_and_a_last_will_marks_offline(ctx: Context) -> None:
    """An older report changes nothing; a last will, though written long ago, takes the device offline."""
    desk = Desk(ctx, MemoryLink())
    topic = topics.up(TASK, DEVICE, "report")
    desk.handle(topic, encode(_report("serving", version=3)))
    desk.handle(topic, encode(_report("updating", age=60, version=2)))
    assert reports_of(ctx, TASK)[DEVICE].release_version == 3
    desk.handle(topics.up(TASK, DEVICE, "status"), encode(_report("offline", age=3600, version=1)))
    report = reports_of(ctx, TASK)[DEVICE]
    assert (report.state, report.release_version) == ("offline", 3)
    desk.handle(topic, encode(_report("serving", version=3)))
    assert reports_of(ctx, TASK)[DEVICE].state == "serving"
    with ctx.database.reader() as session:
        assert session.get_one(DeviceRow, (TASK, DEVICE)).report["agent_version"] == "0.1.0"


def _rollout(
    ctx: Context, rollout_id: str, *, version: int, state: str = "rolling", age: float = 0.0
) -> None:
    with ctx.database.session() as session:
        session.add(
            RolloutRow(
                rollout_id=rollout_id,
                task_id=TASK,
                channel="stable",
                release_version=version,
                model_id="a" * 64,
                devices=[DEVICE],
                state=state,
                started_at=utc_now() - timedelta(seconds=age),
            )  # fmt: skip
        )


def _order(link: MemoryLink) -> RolloutOrder | None:
    payload = link.retained.get(topics.down(TASK, DEVICE, "order"))
    return None if payload is None else decode(RolloutOrder, payload, where="order")


def test_a_device_that_asks_gets_its_newest_order(ctx: Context) -> None:
    """The order of the newest rollout is sent retained; one that was rolled back orders nothing."""
    link = MemoryLink()
    desk = Desk(ctx, link)
    ask = encode(OrderRequest(task_id=TASK, device_id=DEVICE, channel="stable"))
    topic = topics.up(TASK, DEVICE, "order-request")
    desk.handle(topic, ask)
    assert _order(link) is None
    _rollout(ctx, "first", version=1, state="done", age=60)
    _rollout(ctx, "second", version=2)
    desk.handle(topic, ask)
    order = _order(link)
    assert order is not None
    assert order.release_version == 2
    link.retained.clear()
    _rollout(ctx, "third", version=3, state="rolled_back", age=-60)
    orders.republish(ctx, link)
    assert _order(link) is None


def test_a_rollout_ends_when_its_devices_serve_the_release(ctx: Context) -> None:
    """Reports bring a rollout to its end, once, with a record in the journal."""
    _rollout(ctx, "first", version=4)
    desk = Desk(ctx, MemoryLink())
    assert orders.follow(ctx) == []
    desk.handle(topics.up(TASK, DEVICE, "report"), encode(_report("serving", version=4)))
    assert [(one.rollout_id, one.state) for one in orders.follow(ctx)] == [("first", "done")]
    assert orders.follow(ctx) == []
    assert len(list(ctx.store.list(f"tasks/{TASK}/journal/rollouts/"))) == 1
