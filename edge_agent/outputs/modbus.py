"""Write coils and registers of a Modbus TCP device, with pymodbus.

pymodbus waits 3 s and tries three times by itself; here one request has one short timeout and no second try,
since a late coil is worse than none. After a failure the connection is dropped, or an answer that comes late
would be taken for the next one's.
"""

from __future__ import annotations

from typing import Any

from edge_agent.errors import OutputAway
from edge_agent.outputs.base import Point, Write
from edge_agent.outputs.choose import optional
from edge_agent.settings.outputs import ModbusOutput


class ModbusDevice:
    """Be one Modbus TCP device.

    Raises:
        ConfigError: pymodbus is not installed.
    """

    def __init__(self, config: ModbusOutput) -> None:
        self.points: frozenset[Point] = config.addressed()
        self._config = config
        self._library = optional("pymodbus.client", "modbus")
        self._failures = (optional("pymodbus.exceptions", "modbus").ModbusException, OSError)
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
        coils: dict[Any, int] = dict(self._config.coils)
        try:
            if (coil := coils.get(write.point)) is not None:
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

    def close(self) -> None:
        """Drop the connection."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _check(self, answer: Any, what: str) -> None:
        if answer.isError():
            raise self._away(f"{what} of unit {self._config.unit} to be set", str(answer))

    def _away(self, expected: str, got: str) -> OutputAway:
        return OutputAway(
            expected=expected,
            got=got,
            where=f"modbus {self._config.host}:{self._config.port}",
            now="Check the device's power, cable, address map and unit number.",
        )
