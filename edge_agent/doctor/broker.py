"""Check the broker step by step: TCP, TLS, login, subscription, and an answer of the cloud behind it.

The doctor comes with a client id of its own, so that the running agent is not thrown out. A broker
acknowledges what its ACL then drops, so only an answer proves that messages pass; the doctor asks for its
order, as every box does when it connects.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from edge_agent.config import AgentConfig
from edge_agent.doctor.context import Patient
from edge_agent.doctor.finding import Finding
from edge_agent.errors import ConfigError
from edge_agent.link.certificate import tls_words
from edge_agent.login import log_in
from fleet_contracts import topics
from fleet_contracts.base import encode
from fleet_contracts.messages import OrderRequest

NAME = "broker"
CONNECT_S = 4.0
ANSWER_S = 3.0
REFUSED = 128


@dataclass(slots=True)
class _Talk:
    """Hold what the broker said, filled in by paho's thread."""

    connected: threading.Event = field(default_factory=threading.Event)
    subscribed: threading.Event = field(default_factory=threading.Event)
    answered: threading.Event = field(default_factory=threading.Event)
    refusal: str = ""
    denied: bool = False


class BrokerCheck:
    """Talk to the broker as the agent would."""

    name = NAME

    def __init__(self, patient: Patient, answer_s: float = ANSWER_S) -> None:
        self._config = patient.config
        self._answer_s = answer_s
        self._where = f"{self._config.broker.host}:{self._config.broker.port}"

    def check(self) -> Iterator[Finding]:
        """Give the step at which it ends, or that all is well."""
        broker = self._config.broker
        try:
            socket.create_connection((broker.host, broker.port), CONNECT_S).close()
        except socket.gaierror as error:
            now = "Correct broker.host, or look at the box's DNS."
            yield Finding("fail", NAME, f"{self._where}: no such host: {error.strerror}", now)
            return
        except OSError as error:
            now = "Is the broker running, is the port right, does a firewall stand between?"
            yield Finding("fail", NAME, f"{self._where}: {error.strerror or error}", now)
            return
        yield from self._login()

    def _login(self) -> Iterator[Finding]:
        talk = _Talk()
        try:
            client = _client(self._config, talk)
            client.connect(self._config.broker.host, self._config.broker.port, 10)
        except ConfigError as error:
            yield Finding("fail", NAME, str(error), error.diagnostics())
            return
        except OSError as error:
            words = tls_words(error) or str(error)
            now = "Look at broker.tls, broker.port and the certificates; the broker's log says more."
            yield Finding("fail", NAME, f"{self._where}: {words}", now)
            return
        client.loop_start()
        try:
            yield from self._talk(client, talk)
        finally:
            client.disconnect()
            client.loop_stop()

    def _talk(self, client: paho.Client, talk: _Talk) -> Iterator[Finding]:
        config = self._config
        if not talk.connected.wait(CONNECT_S):
            yield Finding("fail", NAME, f"{self._where}: it hangs up or says nothing", _hint(config))
            return
        if talk.refusal:
            now = "Correct broker.username and its password or certificate."
            yield Finding("fail", NAME, f"{self._where}: refused: {talk.refusal}", now)
            return
        client.subscribe(topics.all_down(config.task_id, config.device_id), qos=1)
        if not talk.subscribed.wait(CONNECT_S) or talk.denied:
            now = "Let the broker's ACL give this device its down topics (deploy/mosquitto/acl)."
            yield Finding("fail", NAME, f"{self._where}: the subscription was refused", now)
            return
        request = OrderRequest(task_id=config.task_id, device_id=config.device_id, channel=config.channel)
        topic = topics.up(config.task_id, config.device_id, "order-request")
        client.publish(topic, encode(request), qos=1)
        if talk.answered.wait(self._answer_s):
            yield Finding("ok", NAME, f"{self._where}: connected, subscribed, and the cloud answers")
            return
        # Without a rollout there is no order, and a box takes its channel's newest release: all is well.
        user = config.broker.username
        yield Finding(
            "warn" if user and user != config.device_id else "ok",
            NAME,
            f"{self._where}: connected and subscribed; no order came within {self._answer_s:g} s",
            "So it is before the first rollout. If the box was ordered a release: does ingest run, must the"
            " broker's user name be the device id (the shipped ACL says so)?",
        )


def _client(config: AgentConfig, talk: _Talk) -> paho.Client:
    """Return a client that writes down what it hears.

    Raises:
        ConfigError: a password or certificate file cannot be used.
    """
    name = f"whetstone-doctor-{config.device_id}-{os.getpid()}"
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=paho.MQTTv311)
    client.connect_timeout = CONNECT_S
    log_in(client, config.broker, "broker")

    def on_connect(_client: paho.Client, _data: Any, _flags: Any, reason: Any, _more: Any) -> None:
        talk.refusal = str(reason) if reason.is_failure else ""
        talk.connected.set()

    def on_subscribe(_client: paho.Client, _data: Any, _mid: int, reasons: Any, _more: Any) -> None:
        talk.denied = any(reason.value >= REFUSED for reason in reasons)
        talk.subscribed.set()

    def on_message(_client: paho.Client, _data: Any, _message: paho.MQTTMessage) -> None:
        talk.answered.set()

    client.on_connect = on_connect
    client.on_subscribe = on_subscribe
    client.on_message = on_message
    return client


def _hint(config: AgentConfig) -> str:
    if config.broker.tls:
        return "It may have refused the box's certificate: the broker's log says why."
    return "Does the broker expect TLS on this port (broker.tls = true)?"
