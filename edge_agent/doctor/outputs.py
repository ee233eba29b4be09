"""Check the outputs: each connects in time and has every address; a point is set only when asked for."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping

from edge_agent.doctor.context import Patient
from edge_agent.doctor.finding import Finding
from edge_agent.errors import AgentError, OutputRefused
from edge_agent.outputs.base import Output, Point, Readable, Write
from edge_agent.outputs.choose import open_output
from edge_agent.settings.outputs import AnyOutput, GpioOutput, MqttOutput

NAME = "outputs"
WRONG_ADDRESS = (
    "Correct these addresses; a device that hides from readers what may be written needs it allowed."
)
PULSED: tuple[Point, ...] = ("accept", "reject", "unsure")


class OutputCheck:
    """Connect to every configured output, as the sorter would."""

    name = NAME

    def __init__(self, patient: Patient) -> None:
        self._patient = patient

    def check(self) -> Iterator[Finding]:
        """Give a finding per output."""
        outputs = self._patient.config.outputs
        if not outputs:
            yield Finding("ok", NAME, "none is configured: verdicts are only reported")
        for config in outputs:
            yield self._look_at(config)

    def _look_at(self, config: AnyOutput) -> Finding:
        where = f"{config.name} ({config.kind})"
        if self._patient.is_running and (config.kind == "gpio" or self._patient.test_outputs):
            words = f"{where}: not touched, since the running agent holds it"
            return Finding("ok", NAME, words, "Stop the agent to check it.")
        if isinstance(config, GpioOutput) and not self._patient.test_outputs:
            return _look_at_chip(config, where)
        if isinstance(config, MqttOutput):
            # A second client of the same name would throw out the agent's, and its last will would be sent.
            config = config.model_copy(update={"client_id": ""})
        try:
            output = open_output(config)
        except AgentError as error:
            return Finding("fail", NAME, f"{where}: {error}", error.diagnostics())
        began = time.monotonic()
        try:
            output.connect()
            words = f"{where}: connected in {(time.monotonic() - began) * 1000:.0f} ms"
            refused = output.refused() if isinstance(output, Readable) else {}
            if refused:
                return Finding("fail", NAME, f"{where}: {_told(refused)}", WRONG_ADDRESS)
            if self._patient.test_outputs:
                words += self._switch(output, config)
        except OutputRefused as error:
            return Finding("fail", NAME, f"{where}: {error}", WRONG_ADDRESS)
        except AgentError as error:
            now = "Is the device on, are address and port right, does it allow another connection?"
            return Finding("fail", NAME, f"{where}: {error}", now)
        finally:
            output.close()
        return Finding("ok", NAME, words)

    def _switch(self, output: Output, config: AnyOutput) -> str:
        """Pulse every lane once and set it back; return what was done."""
        done = []
        for point in PULSED:
            if point in output.points:
                output.write(Write(point, 1))
                time.sleep(config.pulse_ms / 1000)
                output.write(Write(point, 0))
                done.append(point)
        return f", pulsed {', '.join(done)}" if done else ", has no lane to pulse"


def _told(refused: Mapping[Point, str]) -> str:
    return "the device refuses " + "; ".join(f"{point} ({why})" for point, why in refused.items())


def _look_at_chip(config: GpioOutput, where: str) -> Finding:
    """Look whether the chip can be opened: asking for its lines would already set them to rest."""
    if not os.access(config.chip, os.R_OK | os.W_OK):
        now = "Correct chip (gpiodetect lists them), and put the agent's user into the group of the device."
        return Finding("fail", NAME, f"{where}: {config.chip} cannot be opened", now)
    now = "Its lines are only tried with --test-outputs, since asking for them sets them."
    return Finding("ok", NAME, f"{where}: {config.chip} can be opened", now)
