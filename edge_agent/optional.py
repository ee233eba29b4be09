"""Load a library that only some boxes need."""

from __future__ import annotations

import logging
from importlib import import_module
from types import ModuleType

from edge_agent.errors import ConfigError


def optional(module: str, needed_by: str, extra: str = "plc") -> ModuleType:
    """Load a library and silence its log: whoever needs it says once what is wrong, not at every try.

    Args:
        module: dotted name.
        needed_by: the part of the configuration that asks for it, for the error message.
        extra: of our distribution, that brings it.

    Raises:
        ConfigError: it is not installed.
    """
    logging.getLogger(module.partition(".")[0]).setLevel(logging.CRITICAL)
    try:
        return import_module(module)
    except ImportError as error:
        raise ConfigError(
            expected=f"the library {module!r} for {needed_by}",
            got=str(error),
            where="this Python",
            now=f"Install it with the extra: 'whetstone-edge[{extra}]' (docs/edge.md, Install).",
        ) from error
