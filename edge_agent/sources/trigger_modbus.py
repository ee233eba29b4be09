"""Be triggered by a PLC that is polled over Modbus TCP, on a thread and with timeouts of its own."""

from __future__ import annotations

import time
from typing import Any

from edge_agent.backoff import Backoff
from edge_agent.counters import Counters
from edge_agent.events import Events
from edge_agent.optional import optional
from edge_agent.settings.camera import TriggerConfig
from edge_agent.sources.trigger import AWAY, ThreadedTrigger, TriggerPulse, lost_between

RETRY_MAX_S = 2.0
WRAPS_AT = 65536


class ModbusTrigger(ThreadedTrigger):
    """Turn a bit's rising edge, or each step of a counting register, into a pulse.

    A counter is the better choice: what it counted while the PLC could not be asked is known, and counted as
    missed; a bit that rose and fell meanwhile is not seen by anybody.

    Raises:
        ConfigError: pymodbus is not installed.
    """

    def __init__(self, config: TriggerConfig, counters: Counters, events: Events) -> None:
        super().__init__(counters, events)
        self._config = config
        self._where = f"{config.host}:{config.real_port}"
        self._known: int | None = None
        self._client = _new_client(config)

    def _run(self) -> None:
        backoff = Backoff(0.1, RETRY_MAX_S)
        is_away = True
        due = time.monotonic()
        while not self._stop.is_set():
            asked_at = time.monotonic()
            try:
                value = self._ask()
            except Exception as error:  # noqa: BLE001 - the thread must outlive whatever pymodbus raises
                self._events.set_problem(AWAY, f"{self._where}: {error}; parts go by untold")
                is_away = True
                self._client.close()
                self._stop.wait(backoff.next_s())
                due = time.monotonic()
                continue
            if is_away:
                self._come_back(backoff)
            self._take(value, asked_at, was_away=is_away)
            is_away = False
            due = max(due + self._config.poll_ms / 1000, time.monotonic() - 0.1)
            self._stop.wait(max(0.0, due - time.monotonic()))
        self._client.close()

    def _come_back(self, backoff: Backoff) -> None:
        backoff.reset()
        self._events.clear_problem(AWAY)
        self._events.note("camera.trigger-ready", where=self._where, table=self._config.table)

    def _ask(self) -> int:
        """Return the bit or register.

        Raises:
            ConnectionError: the PLC does not answer, or with an error.
        """
        if not self._client.connected and not self._client.connect():
            raise ConnectionError("no connection")
        ask: Any = {
            "coil": self._client.read_coils,
            "discrete": self._client.read_discrete_inputs,
            "holding": self._client.read_holding_registers,
            "input": self._client.read_input_registers,
        }[self._config.table]
        answer = ask(self._config.address, count=1, device_id=self._config.unit)
        if answer.isError():
            raise ConnectionError(str(answer))
        is_bit = self._config.table in ("coil", "discrete")
        return int(answer.bits[0]) if is_bit else int(answer.registers[0])

    def _take(self, value: int, asked_at: float, *, was_away: bool) -> None:
        """Turn a change into a pulse; what happened while nobody could ask is only counted."""
        before, self._known = self._known, value
        if before is None or value == before:
            return
        if self._config.table in ("coil", "discrete"):
            if value and not was_away:
                self._pulse(asked_at, lost=0)
            return
        lost = lost_between(before, value, WRAPS_AT)
        if was_away:
            self._queue.note_lost(lost + 1)
        else:
            self._pulse(asked_at, lost)

    def _pulse(self, asked_at: float, lost: int) -> None:
        self._queue.put(TriggerPulse(at_mono=asked_at), lost=lost)


def _new_client(config: TriggerConfig) -> Any:
    library: Any = optional("pymodbus.client", "a trigger of kind modbus")
    return library.ModbusTcpClient(config.host, port=config.real_port, timeout=config.away_s, retries=0)
