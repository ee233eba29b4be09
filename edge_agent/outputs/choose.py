"""Make the adapter of a configured output; each loads its own library, and only when it is wanted."""

from __future__ import annotations

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
