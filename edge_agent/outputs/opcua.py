"""Write nodes of an OPC UA server, with asyncua on an event loop of its own.

Connecting reads the type of every node, which proves that it is there; values are then written in that type
and without time stamps, which many PLCs refuse. The server's certificate must be the one that was configured:
nothing is trusted on first sight.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from typing import Any

from edge_agent.errors import OutputAway, OutputRefused
from edge_agent.login import read_password
from edge_agent.optional import optional
from edge_agent.outputs.base import INFORMATION, Point, Write
from edge_agent.settings.outputs import OpcUaOutput

CONNECT_TIMEOUTS = 10
"""A handshake with signatures is some ten requests; so many timeouts bound it as a whole."""
REST_S = 0.5
REFUSALS = (
    "BadNodeIdUnknown", "BadNodeIdInvalid", "BadAttributeIdInvalid", "BadNotWritable", "BadWriteNotSupported",
    "BadUserAccessDenied", "BadTypeMismatch", "BadOutOfRange",
)  # fmt: skip
"""Status codes by which a server refuses one node for good, while the session goes on."""


class OpcUaDevice:
    """Be nodes of one server.

    Raises:
        ConfigError: asyncua is not installed, or the password file cannot be read.
    """

    def __init__(self, config: OpcUaOutput) -> None:
        self.points: frozenset[Point] = config.addressed()
        self._config = config
        self._timeout_s = config.timeout_ms / 1000.0
        self._library = optional("asyncua", "an output of kind opcua")
        self._policies = optional("asyncua.crypto.security_policies", "an output of kind opcua")
        self._password = read_password(config.password_file, f"password_file of output {config.name}")
        # asyncua lets through what servers, sockets, ciphers and its own cancelled tasks raise.
        self._failures: tuple[type[BaseException], ...] = (
            self._library.ua.UaError,
            optional("cryptography.exceptions", "an output of kind opcua").InvalidSignature,
            concurrent.futures.TimeoutError,
            concurrent.futures.CancelledError,
            asyncio.TimeoutError,
            OSError,
            ValueError,
        )
        codes = self._library.ua.uaerrors
        self._refusals: tuple[type[BaseException], ...] = tuple(getattr(codes, name) for name in REFUSALS)
        self._session: _Session | None = None

    def connect(self) -> None:
        """Connect and find every node with its type."""
        session = _Session(self._failures)
        try:
            session.run(self._open(session), self._timeout_s * CONNECT_TIMEOUTS)
            self._session = session
        except self._failures as error:
            raise self._away("a session", f"{type(error).__name__}: {error}") from error
        finally:
            if self._session is not session:
                session.end(None)

    def write(self, write: Write) -> None:
        """Set the point's node."""
        session = self._session
        if session is None:
            raise self._away("a session", "none")
        session.broken = True
        try:
            session.run(self._set(session, write), self._timeout_s)
            session.broken = False
        except self._refusals as error:
            session.broken = False
            raise self._refuses(write.point, error) from error
        except self._failures as error:
            raise self._away(
                f"an answer to writing {write.point}", f"{type(error).__name__}: {error}"
            ) from error

    def refused(self) -> Mapping[Point, str]:
        """Read every node's type, and whether this user may write it."""
        session = self._session
        if session is None:
            raise self._away("a session", "none")
        found: dict[Point, str] = {}
        for point, text in self._config.nodes.items():
            try:
                if not session.run(self._may_write(session, point), self._timeout_s):
                    found[point] = f"{text}: this user may not write it"
            except self._refusals as error:
                found[point] = f"{text}: {type(error).__name__}"
            except self._failures as error:
                raise self._away(
                    f"an answer to reading {text}", f"{type(error).__name__}: {error}"
                ) from error
        return found

    def close(self) -> None:
        """End the session; one that is broken is dropped without a word, which nobody would answer."""
        session, self._session = self._session, None
        if session is not None:
            session.end(None if session.broken else self._timeout_s)

    async def _open(self, session: _Session) -> None:
        config = self._config
        client = self._library.Client(config.url, timeout=self._timeout_s)
        session.client = client
        if config.username:
            client.set_user(config.username)
            client.set_password(self._password)
        if config.security_policy:
            await client.set_security(
                getattr(self._policies, f"SecurityPolicy{config.security_policy}"),
                certificate=config.cert_file,
                private_key=config.key_file,
                server_certificate=str(config.server_cert_file),
                mode=getattr(self._library.ua.MessageSecurityMode, config.security_mode),
            )
        await client.connect()
        for point, text in config.nodes.items():
            session.nodes[point] = client.get_node(text)
            try:
                await self._kind(session, point)
            except self._refusals as error:
                # What moves something must be there; the rest is told when it is written.
                if point not in INFORMATION:
                    raise self._refuses(point, error) from error

    async def _kind(self, session: _Session, point: Point) -> Any:
        """Return a node's type; asked again for as long as it is not known."""
        if point not in session.kinds:
            session.kinds[point] = await session.nodes[point].read_data_type_as_variant_type()
        return session.kinds[point]

    async def _set(self, session: _Session, write: Write) -> None:
        ua = self._library.ua
        kind = await self._kind(session, write.point)
        value = bool(write.value) if kind == ua.VariantType.Boolean else write.value
        await session.nodes[write.point].write_value(ua.DataValue(ua.Variant(value, kind)))

    async def _may_write(self, session: _Session, point: Point) -> bool:
        await self._kind(session, point)
        levels = await session.nodes[point].get_user_access_level()
        return self._library.ua.AccessLevel.CurrentWrite in levels

    def _refuses(self, point: Point, error: BaseException) -> OutputRefused:
        return OutputRefused(
            expected=f"node {self._config.nodes[point]} ({point}) to be there and to be ours to write",
            got=type(error).__name__,
            where=self._config.url,
            now="Correct the node id, or what the server allows this user.",
        )

    def _away(self, expected: str, got: str) -> OutputAway:
        return OutputAway(
            expected=expected,
            got=got,
            where=self._config.url,
            now="Check the server, the node ids, and whether it trusts this box's certificate and user.",
        )


class _Session:
    """Run one client on an event loop in a thread, so that its keep-alive goes on between writes."""

    def __init__(self, failures: tuple[type[BaseException], ...]) -> None:
        self._failures = failures
        self.client: Any = None
        self.nodes: dict[Point, Any] = {}
        self.kinds: dict[Point, Any] = {}
        self.broken = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="opcua", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Any], seconds: float) -> Any:
        """Wait for a coroutine's outcome, at most so long."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(seconds)
        except concurrent.futures.TimeoutError:
            future.cancel()
            raise

    def end(self, goodbye_s: float | None) -> None:
        """Close the client, with a goodbye within so long or without one, then the loop and its thread."""
        # Whatever fails here, the connection is being dropped.
        with suppress(*self._failures):
            if self.client is not None and goodbye_s is not None:
                self.run(self.client.disconnect(), goodbye_s)
        with suppress(*self._failures):
            self.run(self._drop(), REST_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(REST_S)
        if not self._thread.is_alive():
            self._loop.close()

    async def _drop(self) -> None:
        if self.client is not None:
            self.client.disconnect_socket()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
