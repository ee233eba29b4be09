"""Tell which CUDA the installed torch was built for, without importing it, and what that asks of a driver."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from trainer.fitness.facts import TorchBuild, Version

_VERSION = re.compile(r"^__version__\s*=\s*['\"]([^'\"]+)['\"]", re.MULTILINE)
_CUDA = re.compile(r"^cuda\b[^=]*=\s*['\"](\d+)\.(\d+)['\"]", re.MULTILINE)
_LEAST_DRIVER = {11: "450.80.02", 12: "525.60.13", 13: "580.65.06"}
"""By CUDA's major version, for Linux: NVIDIA's table of minor version compatibility."""
_LEAST_CAPABILITY: dict[int, Version] = {11: (3, 5), 12: (5, 0), 13: (7, 5)}
"""The oldest cards CUDA's compilers still serve: CUDA 13 ended with Pascal (P100) and Volta (V100)."""


def installed_torch() -> TorchBuild:
    """Return the torch of this environment; importing it would take seconds and a gigabyte."""
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        return TorchBuild()
    file = Path(found.origin).with_name("version.py")
    return build_in(file.read_text()) if file.is_file() else TorchBuild()


def build_in(text: str) -> TorchBuild:
    r"""Read torch's `version.py`.

    >>> build_in("__version__ = '2.15.0+cu132'\ncuda: Optional[str] = '13.2'")
    TorchBuild(version='2.15.0+cu132', cuda=(13, 2))
    """
    version, cuda = _VERSION.search(text), _CUDA.search(text)
    return TorchBuild(version[1] if version else "", (int(cuda[1]), int(cuda[2])) if cuda else None)


def least_driver(cuda: Version) -> str:
    """Return the oldest driver that serves a CUDA version, "" when the version is not in our table."""
    return _LEAST_DRIVER.get(cuda[0], "")


def least_capability(cuda: Version) -> Version | None:
    """Return the oldest compute capability a CUDA version serves, None when it is not in our table."""
    return _LEAST_CAPABILITY.get(cuda[0])
