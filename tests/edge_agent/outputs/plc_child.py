"""Be a PLC in a process of its own: a real Modbus TCP, OPC UA or S7 server that tells every write.

python -m tests.edge_agent.outputs.plc_child modbus 5020

Each line on its standard output is a JSON list: what was written, the value, and seconds of `time.monotonic()`,
which all processes of a machine share. The first line is `["ready", 0, 0.0]`.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

COILS, REGISTERS, DB, DB_BYTES = 64, 64, 7, 32


def main() -> None:
    """Serve until killed."""
    kind, port = sys.argv[1], int(sys.argv[2])
    folder = Path(sys.argv[3]) if len(sys.argv) > 3 else None
    if kind == "s7":
        serve_s7(port)
    elif kind == "modbus":
        asyncio.run(serve_modbus(port))
    else:
        asyncio.run(serve_opcua(port, folder))


def tell(what: str, value: Any) -> None:
    """Write a line that the test reads."""
    sys.stdout.write(json.dumps([what, value, time.monotonic()]) + "\n")
    sys.stdout.flush()


async def serve_modbus(port: int) -> None:
    """Serve 64 coils and 64 holding registers of unit 1."""
    from pymodbus.server import StartAsyncTcpServer
    from pymodbus.simulator import DataType, SimData, SimDevice

    async def on_access(
        code: int, start: int, address: int, count: int, now: list[int], new: list[Any] | None
    ) -> None:
        if code in (5, 6) and new is not None:
            tell(f"{'coil' if code == 5 else 'register'} {address}", int(new[0]))

    bits = SimData(0, values=[False] * COILS, datatype=DataType.BITS)
    words = SimData(0, values=[0] * REGISTERS, datatype=DataType.REGISTERS)
    device = SimDevice(id=1, simdata=([bits], [bits], [words], [words]), action=on_access)
    tell("ready", 0)
    await StartAsyncTcpServer(device, address=("127.0.0.1", port))


async def serve_opcua(port: int, folder: Path | None) -> None:
    """Serve nodes `ns=2;s=<point>`; with a folder only signed and encrypted, for user "box"."""
    from asyncua import Server, ua
    from asyncua.common.callback import CallbackType
    from asyncua.crypto.permission_rules import User, UserRole
    from asyncua.server.user_managers import UserManager

    class OneUser(UserManager):
        def get_user(
            self, iserver: Any, username: Any = None, password: Any = None, certificate: Any = None
        ) -> User | None:
            return User(role=UserRole.User) if (username, password) == ("box", "of-brass") else None

    server = Server(user_manager=OneUser()) if folder else Server()
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/plc")
    if folder:
        await server.load_certificate(str(folder / "server.der"))
        await server.load_private_key(str(folder / "server.pem"))
        server.set_security_policy([ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt])
        server.set_identity_tokens([ua.UserNameIdentityToken])
    else:
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    index = await server.register_namespace("urn:whetstone:tests")
    for name in ("reject", "accept", "unsure", "heartbeat", "failsafe", "stop", "parts"):
        kind = ua.VariantType.UInt16 if name == "parts" else ua.VariantType.Boolean
        start = ua.Variant(0 if name == "parts" else False, kind)  # noqa: FBT003
        node = await server.nodes.objects.add_variable(ua.NodeId(name, index), name, start)
        await node.set_writable()
    async with server:
        server.subscribe_server_callback(CallbackType.PostWrite, _tell_write)
        tell("ready", 0)
        await asyncio.Event().wait()


def _tell_write(event: Any, _: Any) -> None:
    for item in event.request_params.NodesToWrite if event.is_external else ():
        tell(str(item.NodeId.Identifier), int(item.Value.Value.Value))


def serve_s7(port: int) -> None:
    """Serve data block 7 with 32 bytes; every change of a byte is told."""
    from snap7.server import Server
    from snap7.type import SrvArea

    block = bytearray(DB_BYTES)
    server = Server(log=False)
    server.register_area(SrvArea.DB, DB, block)
    server.start(port)
    tell("ready", 0)
    watch(block, lambda index, value: tell(f"byte {index}", value))


def watch(block: bytearray, on_change: Callable[[int, int], None]) -> None:
    """Look at the block for ever."""
    known = bytes(block)
    while True:
        time.sleep(0.0005)
        now = bytes(block)
        for index in (index for index in range(len(now)) if now[index] != known[index]):
            on_change(index, now[index])
        known = now


if __name__ == "__main__":
    main()
