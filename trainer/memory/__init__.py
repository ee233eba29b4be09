"""Know memory: what there is and is taken, whether an error means that it ran out, who was killed for it."""

from trainer.memory.cgroup import MemoryGroup
from trainer.memory.host import HostMemory
from trainer.memory.port import DeviceMemory, Kind
from trainer.memory.recognise import Recognised, Room, recognise, recognise_text
from trainer.memory.simulator import Load, SimulatedMemory, Surge, simulated_from_environment
from trainer.memory.trouble import Trouble

__all__ = [
    "DeviceMemory",
    "HostMemory",
    "Kind",
    "Load",
    "MemoryGroup",
    "Recognised",
    "Room",
    "SimulatedMemory",
    "Surge",
    "Trouble",
    "recognise",
    "recognise_text",
    "simulated_from_environment",
]
