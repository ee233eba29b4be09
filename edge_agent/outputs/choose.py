"""Make the adapter of a configured output; each loads its own library, and only when it is wanted."""

from __future__ import annotations

import logging
from importlib import import_module
from pathlib import Path
from types import ModuleType

from edge_agent.errors import ConfigError
from edge_agent.outputs.base import Output
from edge_agent.settings.outputs import (
    AnyOutput,
    GpioOutput,
    LogOutput,
    ModbusOutput,
    MqttOutput,
    OpcUaOutput,
)


def open_output(config: AnyOutput) -> Output:
    """Return the adapter; nothing is connected yet.

    Raises:
        ConfigError: its library is missing, or a file it needs cannot be read.
    """
    if isinstance(config, ModbusOutput):
        from edge_agent.outputs.modbus import ModbusDevice

        return ModbusDevice(config)
    if isinstance(config, OpcUaOutput):
        from edge_agent.outputs.opcua import OpcUaDevice

        return OpcUaDevice(config)
    if isinstance(config, MqttOutput):
        from edge_agent.outputs.mqtt_output import MqttDevice

        return MqttDevice(config)
    if isinstance(config, GpioOutput):
        from edge_agent.outputs.gpio import GpioDevice, open_chip

        return GpioDevice(config, open_chip)
    if isinstance(config, LogOutput):
        from edge_agent.outputs.log import LogDevice

        return LogDevice(config.name)
    from edge_agent.outputs.s7 import S7Device

    return S7Device(config)


def optional(module: str, kind: str) -> ModuleType:
    """Load a library that only some boxes need, and silence its log: the worker says once what is wrong.

    Raises:
        ConfigError: it is not installed.
    """
    logging.getLogger(module.partition(".")[0]).setLevel(logging.CRITICAL)
    try:
        return import_module(module)
    except ImportError as error:
        raise ConfigError(
            expected=f"the library {module!r} for an output of kind {kind!r}",
            got=str(error),
            where="[[outputs]]",
            now="Install it with: pip install 'whetstone-edge[plc]'",
        ) from error


def secret(file: Path | None, where: str) -> str | None:
    """Read a file that holds one secret, or return None for no file.

    Raises:
        ConfigError: it cannot be read.
    """
    if file is None:
        return None
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(
            expected="a readable file", got=str(error.strerror), where=str(file), now=f"Correct {where}."
        ) from error
