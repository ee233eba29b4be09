"""Write coils and registers of a Modbus TCP device, with pymodbus.

pymodbus waits 3 s and tries three times by itself; here one request has one short timeout and no second try,
since a late coil is worse than none. After a failure the connection is dropped, or an answer that comes late
would be taken for the next one's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge_agent.errors import OutputAway, OutputRefused
from edge_agent.optional import optional
from edge_agent.outputs.base import Point, Write
from edge_agent.settings.outputs import ModbusOutput

REFUSALS = {1: "illegal function", 2: "illegal address", 3: "illegal value"}
"""Exception codes by which a device refuses a request for good; the others say that it cannot do it now."""


class ModbusDevice:
    """Be one Modbus TCP device.

    Raises:
        ConfigError: pymodbus is not installed.
    """

    def __init__(self, config: ModbusOutput) -> None:
        self.points: frozenset[Point] = config.addressed()
        self._config = config
        self._library = optional("pymodbus.client", "an output of kind modbus")
        errors = optional("pymodbus.exceptions", "an output of kind modbus")
        self._failures = (errors.ModbusException, OSError)
        self._coils: dict[Any, int] = dict(config.coils)
        self._client: Any = None

    def connect(self) -> None:
        """Open the connection; the first write tells whether the device answers."""
        config = self._config
        client = self._library.ModbusTcpClient(
            config.host, port=config.port, timeout=config.timeout_ms / 1000.0, retries=0
        )
        if not client.connect():
            raise self._away("a connection", "none")
        self._client = client

    def write(self, write: Write) -> None:
        """Set the point's coil, its register, or both."""
        if self._client is None:
            raise self._away("a connection", "none")
        try:
            if (coil := self._coils.get(write.point)) is not None:
                self._check(
                    self._client.write_coil(coil, bool(write.value), device_id=self._config.unit),
                    f"coil {coil}",
                )
            if (register := self._config.registers.get(write.point)) is not None:
                self._check(
                    self._client.write_register(register, write.value, device_id=self._config.unit),
                    f"register {register}",
                )
        except self._failures as error:
            raise self._away(f"an answer to writing {write.point}", str(error)) from error

    def refused(self) -> Mapping[Point, str]:
        """Read every coil and register that has a point."""
        if self._client is None:
            raise self._away("a connection", "none")
        found: dict[Point, str] = {}
        for kind, addresses, read in (
            ("coil", self._coils, self._client.read_coils),
            ("register", self._config.registers, self._client.read_holding_registers),
        ):
            for point, address in addresses.items():
                try:
                    answer = read(address, count=1, device_id=self._config.unit)
                    self._check(answer, f"{kind} {address}", "read")
                except OutputRefused as error:
                    found[point] = f"{kind} {address}: {error.got}"
                except self._failures as error:
                    raise self._away(f"an answer to reading {kind} {address}", str(error)) from error
        return found

    def close(self) -> None:
        """Drop the connection."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _check(self, answer: Any, what: str, done: str = "set") -> None:
        if not answer.isError():
            return
        expected = f"{what} of unit {self._config.unit} to be {done}"
        refusal = REFUSALS.get(getattr(answer, "exception_code", 0))
        if refusal is None:
            raise self._away(expected, str(answer))
        raise OutputRefused(
            expected=expected,
            got=refusal,
            where=f"modbus {self._config.host}:{self._config.port}",
            now="Correct the address; they count from 0.",
        )

    def _away(self, expected: str, got: str) -> OutputAway:
        return OutputAway(
            expected=expected,
            got=got,
            where=f"modbus {self._config.host}:{self._config.port}",
            now="Check the device's power, cable, address map and unit number.",
        )
