"""Hold the ModelArts adapter to the contract, through Huawei Cloud's own SDK, against the simulator."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.gpus.modelarts.simulator import ModelArtsSimulator
from tests.flows.gpus.contract import ProviderContract
from tests.flows.gpus.modelarts.rig import ModelArtsRig
from tests.flows.gpus.sdk.rig import KEY, Clock


class TestModelArtsContract(ProviderContract):
    """Hold ModelArts to the contract."""

    @pytest.fixture
    def rig(self, tmp_path: Path) -> Iterator[ModelArtsRig]:
        """Return a rig with a simulator of its own."""
        clock = Clock()
        with ModelArtsSimulator(KEY, clock) as simulator:
            yield ModelArtsRig(tmp_path, simulator, clock)
