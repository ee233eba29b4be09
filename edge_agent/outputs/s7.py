"""Write bits and words of a Siemens S7 data block, with python-snap7.

The block must not be "optimised", and PUT/GET access must be allowed in the PLC's protection settings. A bit
is written as a bit, never by reading its byte first, so nothing of the PLC's own is overwritten.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from edge_agent.errors import OutputAway, OutputRefused
from edge_agent.optional import optional
from edge_agent.outputs.base import Point, Write
from edge_agent.settings.outputs import S7Output


class S7Device:
    """Be one data block of one PLC.

    Raises:
        ConfigError: python-snap7 is not installed.
    """

    def __init__(self, config: S7Output) -> None:
        self.points: frozenset[Point] = config.addressed()
        self._config = config
        self._library = optional("snap7.client", "an output of kind s7")
        self._transport = optional("snap7.connection", "an output of kind s7")
        self._types = optional("snap7.type", "an output of kind s7")
        # A broken answer shows as a ValueError or a struct.error as well.
        errors = optional("snap7.error", "an output of kind s7")
        self._refusal = errors.S7ProtocolError
        self._failures = (errors.S7Error, RuntimeError, OSError, ValueError, struct.error)
        self._bits: dict[Any, str] = dict(config.bits)
        self._words: dict[Any, int] = dict(config.words)
        self._client: Any = None

    def connect(self) -> None:
        """Connect with our own timeout; `Client.connect` would wait five seconds for a PLC that hangs."""
        config = self._config
        client = self._library.Client()
        remote = (client.connection_type << 8) | (config.rack << 5) | config.slot
        transport = self._transport.ISOTCPConnection(
            host=config.host, port=config.port, local_tsap=client.local_tsap, remote_tsap=remote
        )
        try:
            transport.connect(timeout=config.timeout_ms / 1000.0)
            client.connection = transport
            client._setup_communication()  # noqa: SLF001 - the half of connect() that has no timeout of its own
            client.connected = True
        except self._failures as error:
            transport.disconnect()
            raise self._away("a connection", str(error)) from error
        self._client = client

    def write(self, write: Write) -> None:
        """Set the point's bit or word."""
        if self._client is None:
            raise self._away("a connection", "none")
        areas, lengths = self._types.Area, self._types.WordLen
        try:
            if (bit := self._bits.get(write.point)) is not None:
                byte, place = (int(number) for number in bit.split("."))
                self._client.write_area(
                    areas.DB, self._config.db, byte * 8 + place, bytearray([bool(write.value)]), lengths.Bit
                )
            if (word := self._words.get(write.point)) is not None:
                self._client.db_write(self._config.db, word, bytearray(write.value.to_bytes(2, "big")))
        except self._failures as error:
            raise self._told(f"an answer to writing {write.point}", error) from error

    def refused(self) -> Mapping[Point, str]:
        """Read every byte and word that has a point."""
        if self._client is None:
            raise self._away("a connection", "none")
        found: dict[Point, str] = {}
        places = [(point, bit, int(bit.split(".")[0]), 1) for point, bit in self._bits.items()]
        places += [(point, str(word), word, 2) for point, word in self._words.items()]
        for point, name, start, size in places:
            try:
                self._client.db_read(self._config.db, start, size)
            except self._failures as error:
                told = self._told(f"an answer to reading {name}", error)
                if not isinstance(told, OutputRefused):
                    raise told from error
                found[point] = f"DB{self._config.db} {name}: {error}"
        return found

    def close(self) -> None:
        """Drop the connection."""
        client, self._client = self._client, None
        if client is not None:
            client.disconnect()

    def _told(self, expected: str, error: BaseException) -> OutputAway:
        """Return what a failure means; subclasses of a protocol error speak of lost and late packets."""
        away = self._away(expected, str(error))
        if type(error) is not self._refusal:
            return away
        return OutputRefused(expected=away.expected, got=away.got, where=away.where, now=away.now)

    def _away(self, expected: str, got: str) -> OutputAway:
        config = self._config
        return OutputAway(
            expected=expected,
            got=got,
            where=f"s7 {config.host}:{config.port} rack {config.rack} slot {config.slot} DB{config.db}",
            now="Check cable, rack and slot, PUT/GET access, and that the block is not optimised.",
        )
