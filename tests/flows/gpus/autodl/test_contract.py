"""Hold both AutoDL adapters to the contract of every provider."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.gpus.autodl.simulator import AutodlSimulator
from tests.flows.gpus.autodl.rigs import TOKEN, ElasticRig, ProRig
from tests.flows.gpus.contract import ProviderContract


class TestAutodlProContract(ProviderContract):
    """Rent container instances Pro."""

    @pytest.fixture
    def rig(self, tmp_path: Path) -> Iterator[ProRig]:
        """Return the adapter before a simulated account."""
        with AutodlSimulator(TOKEN) as simulator:
            yield ProRig(tmp_path, simulator)


class TestAutodlElasticContract(ProviderContract):
    """Rent elastic deployments."""

    @pytest.fixture
    def rig(self, tmp_path: Path) -> Iterator[ElasticRig]:
        """Return the adapter before a simulated account."""
        with AutodlSimulator(TOKEN) as simulator:
            yield ElasticRig(tmp_path, simulator)
