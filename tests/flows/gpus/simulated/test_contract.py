"""Hold the simulated cloud to the contract of every provider, with real processes as machines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flows.gpus.contract import ProviderContract
from tests.flows.gpus.simulated.rig import SimulatedRig


class TestSimulatedContract(ProviderContract):
    """Hold it to the contract."""

    @pytest.fixture
    def rig(self, tmp_path: Path) -> Iterator[SimulatedRig]:
        """Return the rig of a fresh cloud, and end its machines."""
        made = SimulatedRig(tmp_path)
        yield made
        made.clean()
