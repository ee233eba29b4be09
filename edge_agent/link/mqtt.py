"""Keep a connection to an MQTT 3.1.1 broker, with jittered back-off of our own.

paho reconnects without jitter and queues what is published while the broker is away; both are avoided
here: one thread connects and serves the socket, and `publish` refuses when there is no connection, since
whoever publishes asks again anyway.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from edge_agent.backoff import Backoff, jittered
from edge_agent.config import BrokerConfig
from edge_agent.errors import ConfigError
from edge_agent.events import Events
from edge_agent.link.base import LinkHandlers, LinkOptions
from edge_agent.link.certificate import read_certificate, tls_words
from edge_agent.link.endings import LONG_WAITS, QUICK_S, Endings
from edge_agent.login import log_in
from fleet_contracts.base import utc_now

logger = logging.getLogger("whetstone.edge.link")
MAX_PAYLOAD_BYTES = 1024 * 1024
CONNECT_TIMEOUT_S = 3.0
FIRST_WAIT_S = 0.5
SERVE_S = 0.5
"""How long one look at the socket may take; also how soon a stop is noticed."""


class MqttLink:
    """Be a link to a real broker."""

    def __init__(self, broker: BrokerConfig, options: LinkOptions, events: Events) -> None:
        self._broker = broker
        self._where = f"{broker.host}:{broker.port}"
        self._options = options
        self._events = events
        self._handlers = LinkHandlers()
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._ready_at = 0.0
        self._endings = Endings()
        self._client = self._new_client()
        self._stamps = _stamps(broker)
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

    def certificate_days_left(self) -> float | None:
        """Return the days until the box's own certificate ends; None without one.

        Raises:
            ConfigError: it cannot be read.
        """
        if self._broker.cert_file is None:
            return None
        return read_certificate(self._broker.cert_file).days_left(utc_now())

    def stop(self) -> None:
        """Disconnect in good order within about a second."""
        self._stop.set()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(0.8)

    def _new_client(self) -> paho.Client:
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._options.client_id,
            clean_session=True,
            protocol=paho.MQTTv311,
        )
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.suppress_exceptions = False
        log_in(client, self._broker, "broker")
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
        backoff = Backoff(FIRST_WAIT_S, self._broker.reconnect_max_s)
        # paho pings after a silence of its keepalive and gives up after a second one: half of ours each.
        ping_s = max(2, self._broker.keepalive_s // 2)
        while not self._stop.is_set():
            self._look_at_certificate()
            ended: MQTTErrorCode | None = None
            try:
                self._take_renewed_certificates()
                self._client.connect(self._broker.host, self._broker.port, ping_s)
                ended = self._serve()
            except (OSError, ValueError) as error:
                self._events.set_problem("broker.away", f"{self._where}: {tls_words(error) or error}")
            except Exception as error:  # noqa: BLE001 - the link's thread must outlive whatever paho raises
                self._events.set_problem("broker.away", f"{self._where}: {type(error).__name__}: {error}")
            wait_s = self._wait_after(ended, backoff)
            self._stop.wait(wait_s)

    def _serve(self) -> MQTTErrorCode:
        """Serve the socket until the connection is lost or a stop is asked for; return how it ended."""
        while not self._stop.is_set():
            ended = self._client.loop(SERVE_S)
            if ended != MQTTErrorCode.MQTT_ERR_SUCCESS:
                hint = "" if self._ready.is_set() or not self._broker.tls else _REFUSED_HINT
                self._events.set_problem("broker.away", f"{self._where}: lost{hint}")
                return ended
            if self._endings.quick and self._ready.is_set() and self._stood_s() >= QUICK_S:
                self._endings.quick = 0
                self._events.clear_problem("link.taken-over")
        # What was published last is written before the goodbye.
        self._client.loop(0.05)
        self._client.disconnect()
        return self._client.loop(0.05)

    def _wait_after(self, ended: MQTTErrorCode | None, backoff: Backoff) -> float:
        """Judge how the connection ended and return how long to stay away."""
        stood_s = self._stood_s() if self._ready.is_set() else None
        self._ready.clear()
        closed = ended == MQTTErrorCode.MQTT_ERR_CONN_LOST
        ending = self._endings.note(stood_s, closed_by_broker=closed)
        if ending == "stable":
            backoff.reset()
        if ending != "quick" or not self._endings.is_taken_over():
            return backoff.next_s()
        self._events.note("link.taken-over", client_id=self._options.client_id, times=self._endings.quick)
        self._events.set_problem(
            "link.taken-over",
            f"the broker ends each connection of client id {self._options.client_id} at once: a second box"
            " seems to use the same device_id; give each box its own",
        )
        return jittered(LONG_WAITS * self._broker.reconnect_max_s)

    def _stood_s(self) -> float:
        return time.monotonic() - self._ready_at

    def _take_renewed_certificates(self) -> None:
        """Read the certificate files again when one was replaced; no restart is needed to renew them."""
        stamps = _stamps(self._broker)
        if stamps != self._stamps:
            self._client = self._new_client()
            self._stamps = stamps

    def _look_at_certificate(self) -> None:
        """Tell of a certificate that ends soon, has ended, or has not begun."""
        if self._broker.cert_file is None:
            return
        try:
            problem = read_certificate(self._broker.cert_file).problem(utc_now())
        except ConfigError as error:
            problem = str(error)
        if problem:
            self._events.set_problem("link.certificate", problem)
        else:
            self._events.clear_problem("link.certificate")

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
        self._ready_at = time.monotonic()
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


_REFUSED_HINT = " before the broker answered; does it accept broker.cert_file? Its log says"


def _leave_to_the_loop(client: paho.Client, userdata: Any, sock: Any) -> None:
    """Do nothing: the thread that serves the socket looks for itself."""


def _stamps(broker: BrokerConfig) -> tuple[tuple[int, int], ...]:
    """Return what changes when a certificate file is replaced; one that is missing just now counts as 0."""
    found = []
    for path in (broker.ca_file, broker.cert_file, broker.key_file):
        try:
            status = None if path is None else path.stat()
        except OSError:
            status = None
        found.append((0, 0) if status is None else (status.st_mtime_ns, status.st_ino))
    return tuple(found)
