"""Hold the PAI-DLC adapter to the contract, through Alibaba Cloud's own SDK, against the simulator."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.gpus.pai_dlc.simulator import PaiDlcSimulator
from tests.flows.gpus.contract import ProviderContract
from tests.flows.gpus.pai_dlc.rig import PaiDlcRig
from tests.flows.gpus.sdk.rig import KEY, Clock


class TestPaiDlcContract(ProviderContract):
    """Hold PAI-DLC to the contract."""

    @pytest.fixture
    def rig(self, tmp_path: Path) -> Iterator[PaiDlcRig]:
        """Return a rig with a simulator of its own."""
        clock = Clock()
        with PaiDlcSimulator(KEY, clock) as simulator:
            yield PaiDlcRig(tmp_path, simulator, clock)
