"""Test triggers against a real broker and a real Modbus server, and what they do when these are gone."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edge_agent.counters import MISSED, Counters
from edge_agent.errors import ConfigError
from edge_agent.events import Events
from edge_agent.login import log_in
from edge_agent.settings.camera import TriggerConfig
from edge_agent.sources.trigger import (
    MOST_PULSES,
    MemoryTrigger,
    PulseQueue,
    Trigger,
    TriggerPulse,
    read_payload,
)
from edge_agent.sources.trigger_file import FileTrigger
from edge_agent.sources.trigger_modbus import ModbusTrigger
from edge_agent.sources.trigger_mqtt import MqttTrigger
from tests.edge_agent.link.certificates import Authority
from tests.edge_agent.link.production_broker import ProductionBroker
from tests.edge_agent.real_broker import RealBroker
from tests.helpers import free_port, wait_until

AWAY = "camera.trigger-away"
TOPIC = "line/part"


def pulse_of(trigger: Trigger, seconds: float = 5.0) -> TriggerPulse:
    pulse = trigger.wait(seconds)
    assert pulse is not None
    return pulse


class Sender:
    """Be a PLC gateway that publishes."""

    def __init__(self, port: int) -> None:
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def send(self, payload: bytes | str, *, retain: bool = False) -> None:
        self._client.publish(TOPIC, payload, qos=1, retain=retain).wait_for_publish(5)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class MqttDesk:
    """Be a trigger on a real broker."""

    def __init__(self, broker: RealBroker) -> None:
        self.broker, self.counters, self.events = broker, Counters(), Events()
        config = TriggerConfig(kind="mqtt", port=broker.port, topic=TOPIC, away_s=1.0)
        self.trigger = MqttTrigger(config, self.counters, self.events)
        self.trigger.start()
        self.ready(1)
        self.sender = Sender(broker.port)

    def ready(self, count: int) -> None:
        wait_until(lambda: self.events.count("camera.trigger-ready") >= count, 10, "the subscription")


@pytest.fixture
def desk(broker: RealBroker) -> Iterator[MqttDesk]:
    made = MqttDesk(broker)
    yield made
    made.sender.close()
    made.trigger.close()


def test_a_message_is_a_pulse_with_its_part_and_flag(desk: MqttDesk) -> None:
    """JSON, plain text and nothing at all; the moment is that of the arrival."""
    began = time.monotonic()
    desk.sender.send(json.dumps({"part_id": "board 7", "flag": "reworked"}))
    desk.sender.send("board-8")
    desk.sender.send(b"")
    first, second, third = (pulse_of(desk.trigger) for _ in range(3))
    assert (first.part_id, first.flag) == ("board-7", "reworked")
    assert (second.part_id, third.part_id) == ("board-8", "")
    assert began < first.at_mono <= second.at_mono <= third.at_mono < time.monotonic()
    assert desk.trigger.wait(0.0) is None


def test_numbers_tell_of_lost_pulses_and_old_messages_are_passed_over(desk: MqttDesk) -> None:
    """A gap is counted; a message the broker kept for a newcomer tells of no part now."""
    desk.sender.send(json.dumps({"number": 4}))
    desk.sender.send(json.dumps({"number": 7}))
    assert pulse_of(desk.trigger)
    assert pulse_of(desk.trigger)
    assert desk.counters.value(MISSED) == 2
    desk.sender.send("old", retain=True)
    assert pulse_of(desk.trigger).part_id == "old"
    events = Events()
    late = MqttTrigger(TriggerConfig(kind="mqtt", port=desk.broker.port, topic=TOPIC), Counters(), events)
    late.start()
    wait_until(lambda: events.count("camera.trigger-stale") == 1, 10, "the kept message")
    assert late.wait(0.0) is None
    late.close()


def test_a_broker_that_dies_is_told_and_comes_back(desk: MqttDesk) -> None:
    """While it is away parts go by untold, and the box says so."""
    desk.sender.close()
    desk.broker.stop()
    wait_until(lambda: AWAY in desk.events.problems(), 10, "the loss to be told")
    desk.broker.start()
    desk.ready(2)
    wait_until(lambda: desk.events.problems() == {}, 10, "the problem to end")
    desk.sender = Sender(desk.broker.port)
    desk.sender.send("again")
    assert pulse_of(desk.trigger).part_id == "again"


class Plc:
    """Be a real Modbus TCP server whose values the test sets; it can be stopped and started again."""

    def __init__(self) -> None:
        self.port = free_port()
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self, value: int = 0) -> None:
        """Serve one value as every kind of bit and register at address 0."""
        from pymodbus.server import ModbusTcpServer
        from pymodbus.simulator import DataType, SimData, SimDevice

        self.value = value

        async def on_access(
            code: int, start: int, address: int, count: int, now: list[Any], new: list[Any] | None
        ) -> None:
            if new is None:
                now[address - start] = bool(self.value) if code in (1, 2) else self.value

        bits = SimData(0, values=[False] * 16, datatype=DataType.BITS)
        words = SimData(0, values=[0] * 16, datatype=DataType.REGISTERS)
        device = SimDevice(id=1, simdata=([bits], [bits], [words], [words]), action=on_access)
        self._loop, started = asyncio.new_event_loop(), threading.Event()

        async def serve() -> None:
            self._server = ModbusTcpServer(device, address=("127.0.0.1", self.port))
            await self._server.serve_forever(background=True)
            started.set()

        def run() -> None:
            assert self._loop is not None
            asyncio.set_event_loop(self._loop)
            self._loop.run_until_complete(serve())
            self._loop.run_forever()

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()
        assert started.wait(5)

    def stop(self) -> None:
        """Close every connection."""
        if self._loop is None:
            return
        asyncio.run_coroutine_threadsafe(self._server.shutdown(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop = None


@pytest.fixture
def plc() -> Iterator[Plc]:
    made = Plc()
    made.start()
    yield made
    made.stop()


class ModbusDesk:
    """Be a trigger that polls a real Modbus server."""

    def __init__(self, plc: Plc, table: str) -> None:
        self.counters, self.events = Counters(), Events()
        config = TriggerConfig(kind="modbus", port=plc.port, table=table, poll_ms=2.0, away_s=0.5)  # type: ignore[arg-type]
        self.trigger = ModbusTrigger(config, self.counters, self.events)
        self.trigger.start()
        self.ready(1)

    def ready(self, count: int) -> None:
        wait_until(lambda: self.events.count("camera.trigger-ready") >= count, 10, "the PLC to answer")


@pytest.mark.parametrize("table", ["discrete", "coil"])
def test_a_rising_bit_is_a_pulse_and_a_falling_one_none(plc: Plc, table: str) -> None:
    """A bit that stands is one part, however long."""
    desk = ModbusDesk(plc, table)
    assert desk.trigger.wait(0.05) is None
    for _ in range(3):
        began = time.monotonic()
        plc.value = 1
        # Stamped when the PLC was asked, which on a busy machine is well before it answers.
        assert began - 1.0 < pulse_of(desk.trigger).at_mono < time.monotonic()
        assert desk.trigger.wait(0.03) is None
        plc.value = 0
        assert desk.trigger.wait(0.03) is None
    desk.trigger.close()


@pytest.mark.parametrize("table", ["holding", "input"])
def test_a_counter_gives_pulses_and_tells_what_was_lost(plc: Plc, table: str) -> None:
    """A step by one is a pulse; a step by three is one pulse and two lost parts; the counter may wrap."""
    plc.value = 65534
    desk = ModbusDesk(plc, table)
    assert desk.trigger.wait(0.05) is None
    plc.value = 65535
    assert pulse_of(desk.trigger)
    plc.value = 2
    assert pulse_of(desk.trigger)
    assert desk.counters.value(MISSED) == 2
    desk.trigger.close()


def test_a_plc_that_dies_is_told_and_what_it_counted_meanwhile_too(plc: Plc) -> None:
    """Parts that went by while nobody could ask are counted as missed; no frame is taken for them."""
    plc.value = 10
    desk = ModbusDesk(plc, "holding")
    assert desk.trigger.wait(0.05) is None
    plc.stop()
    wait_until(lambda: AWAY in desk.events.problems(), 10, "the loss to be told")
    plc.start(14)
    desk.ready(2)
    wait_until(lambda: desk.counters.value(MISSED) == 4, 5, "the lost parts to be counted")
    assert desk.events.problems() == {}
    assert desk.trigger.wait(0.05) is None
    plc.value = 15
    assert pulse_of(desk.trigger)
    desk.trigger.close()


def test_a_plc_that_refuses_the_address_is_told() -> None:
    """An error of the server is a problem with its words, not a pulse."""
    plc = Plc()
    plc.start()
    events = Events()
    config = TriggerConfig(kind="modbus", port=plc.port, table="holding", address=500, away_s=0.5)
    trigger = ModbusTrigger(config, Counters(), events)
    trigger.start()
    wait_until(lambda: AWAY in events.problems(), 10, "the refusal")
    assert trigger.wait(0.0) is None
    trigger.close()
    plc.stop()


def test_lines_appended_to_a_file_are_pulses(tmp_path: Path) -> None:
    """What stood there before is old; a file begun anew is read from its beginning; half a line waits."""
    path = tmp_path / "pulses"
    path.write_text("old\n")
    counters, events = Counters(), Events()
    trigger = FileTrigger(path, counters, events)
    trigger.start()
    assert trigger.wait(0.01) is None
    with path.open("a") as file:
        file.write('a\n{"part_id": "b", "flag": "x"}\nc')
    assert [(p.part_id, p.flag) for p in (pulse_of(trigger), pulse_of(trigger))] == [("a", ""), ("b", "x")]
    assert trigger.wait(0.01) is None
    with path.open("a") as file:
        file.write("d\n")
    assert pulse_of(trigger).part_id == "cd"
    with path.open("a") as file:
        file.write("half")
    assert trigger.wait(0.01) is None
    path.write_text("n\n")
    assert pulse_of(trigger).part_id == "n"
    with path.open("a") as file:
        file.write("m\n" * (MOST_PULSES + 3))
    assert pulse_of(trigger).part_id == "m"
    assert (counters.value(MISSED), events.count("camera.trigger-lost")) == (3, 1)
    while trigger.wait(0.0):
        pass
    path.unlink()
    assert trigger.wait(0.01) is None
    trigger.close()


def test_pulses_are_handed_over_in_order_and_not_without_end() -> None:
    """Whoever waits is woken at once; more pulses than anybody could use are refused."""
    counters = Counters()
    queue = PulseQueue(counters, Events())
    threading.Timer(0.05, queue.put, (TriggerPulse("late"),)).start()
    began = time.monotonic()
    pulse = queue.wait(5.0)
    assert pulse is not None
    assert time.monotonic() - began < 2.0
    for _ in range(MOST_PULSES + 1):
        queue.put(TriggerPulse())
    assert counters.value(MISSED) == 1
    queue.put(TriggerPulse(), lost=3)
    assert counters.value(MISSED) == 5
    memory = MemoryTrigger()
    memory.start()
    assert memory.fire("a").part_id == pulse_of(memory).part_id == "a"


@pytest.mark.parametrize(
    "payload", [b"{", b"[1]", b"\xff\xfe", b'{"part_id": null}', b'{"number": true}', b"x" * 9000]
)
def test_a_payload_nobody_understands_is_still_a_pulse(payload: bytes) -> None:
    """A part lies there, whatever the message says."""
    told = read_payload(payload)
    assert told.number is None
    assert len(told.part_id) <= 128


def test_a_trigger_needs_what_its_kind_needs(tmp_path: Path) -> None:
    """Topic, path and a readable password."""
    for kind in ("mqtt", "file"):
        with pytest.raises(ValueError, match="needs a"):
            TriggerConfig(kind=kind)  # type: ignore[arg-type]
    config = TriggerConfig(kind="mqtt", topic="x", username="u", password_file=tmp_path / "none")
    with pytest.raises(ConfigError, match=r"trigger\.password_file"):
        MqttTrigger(config, Counters(), Events())
    assert TriggerConfig(kind="modbus").real_port == 502


def test_a_trigger_speaks_to_the_production_broker_with_a_certificate(tmp_path: Path) -> None:
    """TLS and a client certificate are the rule in a plant; without them the broker lets nobody in."""
    broker = ProductionBroker(tmp_path, Authority(tmp_path / "certs"))
    who = broker.as_client("whetstone-cloud")
    config = TriggerConfig(
        kind="mqtt",
        host=who.host,
        port=who.port,
        topic="whetstone/v1/boards/up/box-1/report",
        tls=True,
        ca_file=who.ca_file,
        cert_file=who.cert_file,
        key_file=who.key_file,
    )
    broker.start()
    events = Events()
    trigger = MqttTrigger(config, Counters(), events)
    trigger.start()
    sender = paho.Client(CallbackAPIVersion.VERSION2)
    log_in(sender, who, "broker")
    try:
        wait_until(lambda: events.count("camera.trigger-ready") == 1, 10, "the trigger to be let in")
        sender.connect(who.host, who.port)
        sender.loop_start()
        sender.publish(config.topic, "board-7", qos=1).wait_for_publish(5)
        assert pulse_of(trigger).part_id == "board-7"
    finally:
        sender.disconnect()
        sender.loop_stop()
        trigger.close()
        broker.stop()
