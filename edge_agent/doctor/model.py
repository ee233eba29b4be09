"""Check the installed release: that it loads here, finds what the cloud found, and how fast."""

from __future__ import annotations

from collections.abc import Iterator

from edge_agent.doctor.context import Patient
from edge_agent.doctor.finding import Finding
from edge_agent.errors import AgentError
from edge_agent.ota.disk import Disk
from edge_agent.ota.self_test import ChildSelfTest
from edge_agent.ota.slots import Slots

WAIT_S = 120.0


class ModelCheck:
    """Let the serving release prove itself in a child process, as before it was installed."""

    name = "model"

    def __init__(self, patient: Patient, wait_s: float = WAIT_S) -> None:
        self._patient = patient
        self._wait_s = wait_s

    def check(self) -> Iterator[Finding]:
        """Give the release, its provider and its time per frame."""
        config = self._patient.config
        folder = config.data_dir / "releases"
        if not (folder / "slots.json").exists():
            now = "The agent fetches the first one; see the finding on the release server."
            yield Finding("warn", self.name, "no release is installed yet", now)
            return
        slots = Slots(folder, Disk())
        pointers = slots.pointers()
        try:
            release = slots.load(pointers.current)
            verdict = ChildSelfTest(self._wait_s, config.inference.threads).run(slots.path(pointers.current))
        except AgentError as error:
            yield Finding("fail", self.name, str(error), error.diagnostics())
            return
        words = f"release {release.version}, {release.input_spec.width}x{release.input_spec.height}, "
        words += f"{verdict.probes} probe images right, {verdict.engine_ms:.1f} ms per frame"
        words += f" on {verdict.provider}"
        if not pointers.confirmed:
            now = "It is confirmed after its first good frames; look again in a minute."
            yield Finding("warn", self.name, f"{words}, still on trial", now)
        else:
            yield Finding("ok", self.name, words)
