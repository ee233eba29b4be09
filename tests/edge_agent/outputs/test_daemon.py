"""The daemon as a process with an ejector on a real Modbus TCP server."""

from __future__ import annotations

import signal
import time

from tests.edge_agent.desk_box import Box
from tests.edge_agent.outputs.plc import running_plc
from tests.helpers import wait_until

EJECTOR = """
[[outputs]]
kind = "modbus"
name = "ejector"
host = "127.0.0.1"
port = {port}
coils = {{ reject = 0, heartbeat = 7, failsafe = 9 }}
travel_ms = 1500
late_ok_ms = 20000
recover_ms = 100
"""


def test_a_daemon_ejects_and_leaves_the_line_safe(box: Box) -> None:
    """Bad parts reach the coil; a stop is told to the line, and a kill shows as a heartbeat that stands still."""
    with running_plc("modbus") as plc:
        path = box.configure()
        path.write_text(path.read_text() + EJECTOR.format(port=plc.port))
        box.start()
        wait_until(lambda: plc.shows("coil 9") == 0, 30, "the line to be trusted to the box")
        plc.writes.clear()
        box.feed(6)
        wait_until(lambda: plc.shows("coil 0") == 0, 30, "a reject and its end")
        assert box.signal(signal.SIGTERM) == 0
        wait_until(lambda: plc.shows("coil 9") == 1, 5, "the fail-safe state of a stopped box")
        assert plc.shows("coil 0") == 1
        box.start()
        wait_until(lambda: plc.shows("coil 9") == 0, 30, "the line to be trusted again")
        box.signal(signal.SIGKILL)
        beats = len(plc.of("coil 7")) + len(plc.of("coil 7", 0))
        time.sleep(1.0)
        assert len(plc.of("coil 7")) + len(plc.of("coil 7", 0)) <= beats + 1
