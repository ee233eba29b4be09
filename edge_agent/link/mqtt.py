"""Keep a connection to an MQTT 3.1.1 broker, with jittered back-off of our own.

paho reconnects without jitter and queues what is published while the broker is away; both are avoided
here: one thread connects and serves the socket, and `publish` refuses when there is no connection, since
whoever publishes asks again anyway.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from edge_agent.backoff import Backoff
from edge_agent.config import BrokerConfig
from edge_agent.errors import ConfigError
from edge_agent.events import Events
from edge_agent.link.base import LinkHandlers, LinkOptions

logger = logging.getLogger("whetstone.edge.link")
MAX_PAYLOAD_BYTES = 1024 * 1024
CONNECT_TIMEOUT_S = 3.0
SERVE_S = 0.5
"""How long one look at the socket may take; also how soon a stop is noticed."""


class MqttLink:
    """Be a link to a real broker."""

    def __init__(self, broker: BrokerConfig, options: LinkOptions, events: Events) -> None:
        self._broker = broker
        self._options = options
        self._events = events
        self._handlers = LinkHandlers()
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._client = self._new_client()
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)

    def start(self, handlers: LinkHandlers) -> None:
        """Begin to connect."""
        self._handlers = handlers
        self._thread.start()

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> bool:
        """Hand a message to paho at QoS 1; False when there is no connection."""
        if not self._ready.is_set():
            return False
        return self._client.publish(topic, payload, qos=1, retain=retain).rc == MQTTErrorCode.MQTT_ERR_SUCCESS

    def is_connected(self) -> bool:
        """Tell whether the connection stands and the subscriptions are in force."""
        return self._ready.is_set()

    def stop(self) -> None:
        """Disconnect in good order within about a second."""
        self._stop.set()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(0.8)

    def _new_client(self) -> paho.Client:
        client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=self._options.client_id, clean_session=True
        )
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.suppress_exceptions = False
        if self._broker.username:
            client.username_pw_set(self._broker.username, _password(self._broker))
        if self._broker.tls:
            _set_tls(client, self._broker)
        if self._options.will is not None:
            client.will_set(self._options.will.topic, self._options.will.payload, qos=1, retain=True)
        # Without this hook paho writes to the socket on the publisher's thread as well as on ours, and two
        # messages can be mixed on the wire; with it, publishing only wakes our thread.
        client.on_socket_register_write = _leave_to_the_loop
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        return client

    def _run(self) -> None:
        backoff = Backoff(0.5, self._broker.reconnect_max_s)
        where = f"{self._broker.host}:{self._broker.port}"
        while not self._stop.is_set():
            try:
                self._client.connect(self._broker.host, self._broker.port, self._broker.keepalive_s)
                if self._serve():
                    backoff.reset()
            except (OSError, ValueError) as error:
                self._events.set_problem("broker.away", f"{where}: {error}")
            except Exception as error:  # noqa: BLE001 - the link's thread must outlive whatever paho raises
                self._events.set_problem("broker.away", f"{where}: {type(error).__name__}: {error}")
            self._ready.clear()
            self._stop.wait(backoff.next_s())

    def _serve(self) -> bool:
        """Serve the socket until the connection is lost or a stop is asked for; True if it ever stood."""
        stood = False
        while not self._stop.is_set():
            if self._client.loop(SERVE_S) != MQTTErrorCode.MQTT_ERR_SUCCESS:
                self._ready.clear()
                self._events.set_problem("broker.away", f"{self._broker.host}:{self._broker.port}: lost")
                return stood
            stood = stood or self._ready.is_set()
        # What was published last is written before the goodbye.
        self._client.loop(0.05)
        self._client.disconnect()
        self._client.loop(0.05)
        return stood

    def _on_connect(
        self, client: paho.Client, userdata: Any, flags: Any, reason: Any, properties: Any
    ) -> None:
        if reason.is_failure:
            self._events.set_problem("broker.refused", str(reason))
            return
        self._events.clear_problem("broker.refused")
        client.subscribe([(pattern, 1) for pattern in self._options.filters])

    def _on_subscribe(
        self, client: paho.Client, userdata: Any, mid: int, reasons: Any, properties: Any
    ) -> None:
        self._ready.set()
        self._events.clear_problem("broker.away")
        self._events.note("broker.connected", host=self._broker.host)
        self._guard("connected", self._handlers.on_connected)

    def _on_message(self, client: paho.Client, userdata: Any, message: paho.MQTTMessage) -> None:
        if len(message.payload) > MAX_PAYLOAD_BYTES:
            self._events.note("link.too-long", topic=message.topic, bytes=len(message.payload))
            return
        self._guard(message.topic, lambda: self._handlers.on_message(message.topic, bytes(message.payload)))

    def _guard(self, what: str, call: Any) -> None:
        """Run a handler; its error is counted, for one bad message must not cut the link."""
        try:
            call()
        except Exception as error:  # the thread's outer edge towards our own handlers
            self._events.note("link.handler-failed", what=what, problem=f"{type(error).__name__}: {error}")
            logger.exception("link.handler-failed %s", what)


def _leave_to_the_loop(client: paho.Client, userdata: Any, sock: Any) -> None:
    """Do nothing: the thread that serves the socket looks for itself."""


def _password(broker: BrokerConfig) -> str | None:
    if broker.password_file is None:
        return None
    try:
        return broker.password_file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(
            expected="a readable password file",
            got=str(error.strerror),
            where=str(broker.password_file),
            now="Correct broker.password_file.",
        ) from error


def _set_tls(client: paho.Client, broker: BrokerConfig) -> None:
    def text(path: object) -> str | None:
        return None if path is None else str(path)

    try:
        client.tls_set(
            ca_certs=text(broker.ca_file), certfile=text(broker.cert_file), keyfile=text(broker.key_file)
        )
    except (OSError, ValueError) as error:
        raise ConfigError(
            expected="readable certificate files",
            got=str(error),
            where="[broker]",
            now="Correct broker.ca_file, cert_file and key_file.",
        ) from error
