"""The engine computes on the best of what is installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from detection.errors import EngineFailed
from detection.providers import CPU, CUDA, TENSORRT, choose_providers, require_providers, with_engine_cache


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


def test_tensorrt_keeps_its_engine_in_the_models_folder() -> None:
    """Engine and timings are kept; the other providers are asked for as they were."""
    first, *rest = with_engine_cache((TENSORRT, CUDA, CPU), Path("/models/engine/0a"))
    assert first == (
        TENSORRT,
        {
            "trt_engine_cache_enable": "True",
            "trt_engine_cache_path": "/models/engine/0a",
            "trt_timing_cache_enable": "True",
            "trt_timing_cache_path": "/models/engine/0a",
        },
    )
    assert rest == [CUDA, CPU]


def test_without_a_folder_nothing_is_kept() -> None:
    """A model in memory has no place for an engine."""
    assert with_engine_cache((TENSORRT, CPU), None) == [TENSORRT, CPU]
    assert with_engine_cache((CPU,), Path("/models/engine/0a")) == [CPU]
