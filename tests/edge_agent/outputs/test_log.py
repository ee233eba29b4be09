"""The output of kind `log`: collectors find its events by name, as all others."""

from __future__ import annotations

import io
import json
import logging

from edge_agent.logs import LogOutput
from edge_agent.outputs.log import LogDevice
from tests.edge_agent.outputs.outputs_kit import write


def test_parts_and_the_fail_safe_state_are_events_with_fields() -> None:
    """With --log-format json `select(.event == "output.part")` works, and every field has its own key."""
    stream = io.StringIO()
    root_level = logging.getLogger().level
    log = LogOutput("INFO", "json", stream)
    try:
        device = LogDevice("lamp")
        device.write(write("reject"))
        device.write(write("failsafe"))
    finally:
        log.close()
        logging.getLogger().setLevel(root_level)
    told = {one["event"]: one for one in map(json.loads, stream.getvalue().splitlines())}
    part, failsafe = told["output.part"], told["output.failsafe"]
    assert (part["output"], part["part"], part["verdict"], part["lane"]) == ("lamp", "P1", "reject", "reject")
    assert (failsafe["output"], failsafe["safe"], failsafe["level"]) == ("lamp", True, "warning")
