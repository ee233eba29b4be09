"""The engine computes on the best of what is installed."""

from __future__ import annotations

import pytest

from detection.errors import EngineFailed
from detection.providers import CPU, CUDA, TENSORRT, choose_providers, require_providers


@pytest.mark.parametrize(
    ("available", "expected"),
    [
        ((CPU,), (CPU,)),
        ((CPU, CUDA), (CUDA, CPU)),
        ((CPU, CUDA, TENSORRT), (TENSORRT, CUDA, CPU)),
        (("AzureExecutionProvider", CPU), (CPU,)),  # would send frames away
        ((TENSORRT, CPU), (TENSORRT, CPU)),
    ],
)
def test_the_fastest_known_comes_first(available: tuple[str, ...], expected: tuple[str, ...]) -> None:
    """TensorRT before CUDA before CPU, and nothing unknown."""
    assert choose_providers(available) == expected


def test_nothing_known_is_an_error() -> None:
    """An installation without any provider we know is refused with what it has."""
    with pytest.raises(EngineFailed, match="AzureExecutionProvider"):
        choose_providers(("AzureExecutionProvider",))


def test_wanted_providers_keep_their_order() -> None:
    """A person's order is kept."""
    assert require_providers((CPU, CUDA), (CUDA, CPU)) == (CPU, CUDA)


@pytest.mark.parametrize("wanted", [(), (CUDA,), (CUDA, CPU)])
def test_a_missing_wanted_provider_is_an_error(wanted: tuple[str, ...]) -> None:
    """No silent change of what computes."""
    with pytest.raises(EngineFailed):
        require_providers(wanted, (CPU,))
