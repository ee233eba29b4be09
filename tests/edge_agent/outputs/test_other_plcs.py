"""OPC UA, S7 and MQTT outputs against real servers."""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from paho.mqtt.enums import CallbackAPIVersion

from edge_agent.errors import OutputAway
from edge_agent.outputs.mqtt_output import MqttDevice
from edge_agent.outputs.opcua import OpcUaDevice
from edge_agent.outputs.s7 import S7Device
from edge_agent.settings.outputs import MqttOutput, OpcUaOutput, S7Output
from tests.edge_agent.outputs.outputs_kit import QUICK, outputs_of, part_of, running_line, write
from tests.edge_agent.outputs.plc import Plc, running_plc
from tests.edge_agent.real_broker import RealBroker
from tests.helpers import wait_until

NODES = {name: f"ns=2;s={name}" for name in ("reject", "heartbeat", "failsafe", "parts")}


def opcua_of(plc: Plc, **more: object) -> OpcUaOutput:
    """Read an output for this OPC UA server."""
    table = {
        "kind": "opcua",
        "name": "scada",
        "url": f"opc.tcp://127.0.0.1:{plc.port}/plc",
        "nodes": NODES,
        **more,
    }
    (config,) = outputs_of(table)
    assert isinstance(config, OpcUaOutput)
    return config


def s7_of(plc: Plc, **more: object) -> S7Output:
    """Read an output for this S7."""
    table = {"kind": "s7", "name": "siemens", "host": "127.0.0.1", "port": plc.port, "db": 7,
             "bits": {"reject": "0.0", "heartbeat": "1.0", "failsafe": "2.0"}, "words": {"parts": 4}, **more}  # fmt: skip
    (config,) = outputs_of(table)
    assert isinstance(config, S7Output)
    return config


@pytest.fixture(scope="module")
def ua_server() -> Iterator[Plc]:
    with running_plc("opcua") as real:
        yield real


@pytest.fixture
def s7_server() -> Iterator[Plc]:
    with running_plc("s7") as real:
        yield real


def test_opcua_nodes_are_written_in_their_own_type(ua_server: Plc) -> None:
    """A Boolean node gets a Boolean, a UInt16 node a number."""
    device = OpcUaDevice(opcua_of(ua_server, timeout_ms=800))
    device.connect()
    for one in (write("reject"), write("parts", 513)):
        device.write(one)
    wait_until(lambda: ua_server.shows("parts") == 513, 5, "the server to tell")
    assert ua_server.shows("reject") == 1
    device.close()


def test_an_opcua_node_that_is_not_there_is_told_at_connecting(ua_server: Plc) -> None:
    """A wrong node id is found before the first part."""
    device = OpcUaDevice(opcua_of(ua_server, timeout_ms=800, nodes={"reject": "ns=2;s=nowhere"}))
    with pytest.raises(OutputAway, match="BadNodeIdUnknown"):
        device.connect()


def test_an_opcua_node_for_information_may_be_missing(ua_server: Plc, tmp_path: Path) -> None:
    """Its problem stands while the ejector fires; what reads the addresses names it, and sets nothing."""
    nodes = {**NODES, "parts": "ns=2;s=nowhere"}
    config = opcua_of(ua_server, **{**QUICK, "timeout_ms": 800, "nodes": nodes})
    device = OpcUaDevice(config)
    device.connect()
    assert device.refused() == {"parts": "ns=2;s=nowhere: BadNodeIdUnknown"}
    device.close()
    with running_line(tmp_path, (config,)) as line:
        line.healthy()
        line.sorter.on_decision(part_of("reject"))
        wait_until(lambda: line.counted("scada", "fired") == 1, 5, "the reject to fire")
        assert "ns=2;s=nowhere (parts)" in line.events.problems()["output.refused.scada"]
        assert line.events.count("output.connected") == 1


def test_a_frozen_opcua_server_costs_one_timeout_and_comes_back(tmp_path: Path) -> None:
    """The worker notices, makes the line safe, and goes on when the server does."""
    with running_plc("opcua") as plc, running_line(tmp_path, (opcua_of(plc, **QUICK),)) as line:
        line.healthy()
        plc.freeze()
        wait_until(lambda: "output.failsafe.scada" in line.events.problems(), 5, "the fail-safe state")
        plc.wake()
        line.healthy()
        line.sorter.on_decision(part_of("reject"))
        wait_until(lambda: line.counted("scada", "fired") == 1, 5, "the reject to fire")


def test_opcua_signs_encrypts_and_names_its_user(tmp_path: Path) -> None:
    """With certificates and a user from files it connects; not by a wrong password or to a wrong server."""
    _certificate(tmp_path, "server")
    _certificate(tmp_path, "box")
    (tmp_path / "password").write_text("of-brass\n")
    (tmp_path / "wrong").write_text("of-tin\n")
    security = {
        "security_policy": "Basic256Sha256", "username": "box", "timeout_ms": 800,
        "cert_file": tmp_path / "box.der", "key_file": tmp_path / "box.pem",
        "server_cert_file": tmp_path / "server.der",
    }  # fmt: skip
    with running_plc("opcua", tmp_path) as plc:
        device = OpcUaDevice(opcua_of(plc, **security, password_file=tmp_path / "password"))
        device.connect()
        device.write(write("reject"))
        wait_until(lambda: plc.shows("reject") == 1, 5, "the server to tell")
        device.close()
        with pytest.raises(OutputAway):
            OpcUaDevice(opcua_of(plc, **security, password_file=tmp_path / "wrong")).connect()
        impostor = security | {"server_cert_file": tmp_path / "box.der"}
        with pytest.raises(OutputAway):
            OpcUaDevice(opcua_of(plc, **impostor, password_file=tmp_path / "password")).connect()


def test_s7_bits_and_words_reach_the_block(s7_server: Plc) -> None:
    """A bit sets its bit and a number two bytes, high byte first."""
    device = S7Device(s7_of(s7_server))
    device.connect()
    for one in (write("reject"), write("parts", 0x0203)):
        device.write(one)
    wait_until(lambda: s7_server.shows("byte 5") == 3, 5, "the block to change")
    assert s7_server.shows("byte 0") == 1
    assert s7_server.shows("byte 4") == 2
    device.close()


def test_an_s7_block_that_is_not_there_is_told(s7_server: Plc) -> None:
    """A wrong block number is no silent success."""
    device = S7Device(s7_of(s7_server, db=8))
    device.connect()
    with pytest.raises(OutputAway, match="DB8"):
        device.write(write("reject"))
    device.close()


def test_an_s7_word_beyond_the_block_does_not_keep_the_ejector_from_firing(
    s7_server: Plc, tmp_path: Path
) -> None:
    """Reading finds the wrong word and sets nothing; in the run its problem stands and the reject fires."""
    config = s7_of(s7_server, **{**QUICK, "timeout_ms": 800, "words": {"parts": 400}})
    device = S7Device(config)
    device.connect()
    refused = device.refused()
    assert list(refused) == ["parts"]
    assert "DB7 400" in refused["parts"]
    device.close()
    with running_line(tmp_path, (config,)) as line:
        line.healthy()
        line.sorter.on_decision(part_of("reject"))
        wait_until(lambda: line.counted("siemens", "fired") == 1, 5, "the reject to fire")
        assert "output.refused.siemens" in line.events.problems()
        assert line.events.count("output.connected") == 1


def test_a_frozen_s7_costs_its_timeout_at_writing_and_at_connecting(s7_server: Plc) -> None:
    """Neither takes the library's five seconds."""
    device = S7Device(s7_of(s7_server, timeout_ms=150))
    device.connect()
    s7_server.freeze()
    for call in (lambda: device.write(write("reject")), device.connect):
        began = time.monotonic()
        with pytest.raises(OutputAway):
            call()
        assert time.monotonic() - began < 2.0
    s7_server.wake()
    device.close()


def test_an_s7_that_is_killed_and_started_again_is_connected_again(s7_server: Plc, tmp_path: Path) -> None:
    """The line is made safe, and runs again when the PLC does."""
    with running_line(tmp_path, (s7_of(s7_server, **QUICK),)) as line:
        line.healthy()
        s7_server.kill()
        wait_until(lambda: line.sorter.status()[0].state == "safe", 5, "the safe state")
        s7_server.start()
        line.healthy()


class Listener:
    """Be the plant's side: hear everything under a topic."""

    def __init__(self, port: int) -> None:
        self.heard: list[tuple[str, Any]] = []
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.on_message = lambda _, __, message: self.heard.append(
            (message.topic, json.loads(message.payload))
        )
        self._client.on_connect = lambda client, *_: client.subscribe("plant/#", 1)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def of(self, topic: str) -> list[Any]:
        return [content for name, content in list(self.heard) if name == f"plant/line-1/{topic}"]

    def end(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def mqtt_of(broker: RealBroker, **more: object) -> MqttOutput:
    """Read an output for this broker."""
    table = {"kind": "mqtt", "name": "mes", "host": "127.0.0.1", "port": broker.port, "topic": "plant/line-1",
             **QUICK, **more}  # fmt: skip
    (config,) = outputs_of(table)
    assert isinstance(config, MqttOutput)
    return config


def test_mqtt_tells_every_part_when_it_is_due(broker: RealBroker, tmp_path: Path) -> None:
    """One document per part of any verdict, a heartbeat, and the fail-safe state."""
    listener = Listener(broker.port)
    with running_line(tmp_path, (mqtt_of(broker, travel_ms=50),)) as line:
        line.healthy()
        for verdict in ("accept", "reject", "unsure"):
            line.sorter.on_decision(part_of(verdict, f"P-{verdict}"))  # type: ignore[arg-type]
        wait_until(lambda: len(listener.of("part")) == 3, 5, "three documents")
        wait_until(lambda: len(listener.of("heartbeat")) >= 2, 5, "a heartbeat")
        assert [one["verdict"] for one in listener.of("part")] == ["accept", "reject", "unsure"]
        assert {"part_id", "number", "camera", "lane", "captured_at", "findings"} <= set(
            listener.of("part")[0]
        )
        wait_until(lambda: listener.of("failsafe")[-1]["safe"] is False, 5, "the safe state to be left")
    wait_until(lambda: listener.of("failsafe")[-1]["safe"] is True, 5, "the safe state at the end")
    listener.end()


def test_a_broker_that_dies_is_noticed_and_found_again(broker: RealBroker, tmp_path: Path) -> None:
    """Killed, then started: the line is safe in between, and no old verdict comes late."""
    with running_line(tmp_path, (mqtt_of(broker),)) as line:
        line.healthy()
        broker.stop()
        wait_until(lambda: "output.failsafe.mes" in line.events.problems(), 5, "the fail-safe state")
        line.sorter.on_decision(part_of("reject", "old"))
        wait_until(lambda: line.counted("mes", "held") == 1, 5, "the part to be held")
        broker.start()
        listener = Listener(broker.port)
        line.healthy()
        line.sorter.on_decision(part_of("reject", "new"))
        wait_until(
            lambda: [one["part_id"] for one in listener.of("part")] == ["new"], 5, "the new part alone"
        )
        listener.end()


def test_the_broker_says_that_the_box_is_gone(broker: RealBroker, tmp_path: Path) -> None:
    """The last will speaks for a box that lost its power."""
    listener = Listener(broker.port)
    device = MqttDevice(mqtt_of(broker))
    device.connect()
    device.write(write("failsafe", 0))
    wait_until(lambda: listener.of("failsafe") != [], 5, "the first word")
    assert device._client is not None
    device._client.socket().close()  # type: ignore[union-attr]
    wait_until(
        lambda: listener.of("failsafe")[-1] == {"safe": True, "why": "the box is gone"}, 15, "the will"
    )
    listener.end()


def test_the_will_speaks_for_a_box_whose_words_no_longer_pass(broker: RealBroker) -> None:
    """A broker too slow to answer in time is left without a goodbye, or the line went on trusting us."""
    listener = Listener(broker.port)
    device = MqttDevice(mqtt_of(broker))
    device.connect()
    device.write(write("failsafe", 0))
    wait_until(lambda: listener.of("failsafe") != [], 5, "the first word")
    broker.pause()
    try:
        with pytest.raises(OutputAway):
            device.write(write("heartbeat"))
        device.close()
    finally:
        broker.go_on()
    wait_until(
        lambda: listener.of("failsafe")[-1] == {"safe": True, "why": "the box is gone"}, 15, "the will"
    )
    listener.end()


def _certificate(folder: Path, name: str) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    uri = x509.SubjectAlternativeName([x509.UniformResourceIdentifier("urn:freeopcua:client")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject).issuer_name(subject).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(uri, critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    (folder / f"{name}.der").write_bytes(certificate.public_bytes(serialization.Encoding.DER))
    (folder / f"{name}.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
