"""Be the command `whetstone-agent`: run the daemon, say how it fares, or find out what is wrong with the box.

whetstone-agent run --config /etc/whetstone/agent.toml
whetstone-agent status --config /etc/whetstone/agent.toml
whetstone-agent doctor --config /etc/whetstone/agent.toml
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from edge_agent import agent_version
from edge_agent.agent import Agent
from edge_agent.care.running import is_running
from edge_agent.config import AgentConfig, load_config, require_files
from edge_agent.data_folder import LOCK_FILE, STATUS_FILE
from edge_agent.errors import AgentError
from edge_agent.logs import log_to_stderr
from edge_agent.priority import hand_over_quickly, keep_to
from edge_agent.redaction import redact
from edge_agent.world import World, real_world
from fleet_contracts.base import decode, utc_now
from fleet_contracts.errors import ContractError
from fleet_contracts.releases import DeviceReport

EXIT_OK, EXIT_FAILED, EXIT_USAGE = 0, 1, 2
LOOK_EVERY_S = 0.5
STOP_WITHIN_S = 4.5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code: 0 well, 1 failed, 2 wrong configuration."""
    options = _parser().parse_args(arguments)
    if options.command == "doctor":
        from edge_agent.doctor.command import run_doctor

        return run_doctor(options.config, as_json=options.json, test_outputs=options.test_outputs)
    try:
        config = load_config(options.config)
        if options.command == "status":
            return show_status(config)
        require_files(config, where=options.config)
        output = log_to_stderr(options.log_level, options.log_format)
        try:
            return run(config, real_world())
        finally:
            output.close()
    except AgentError as error:
        sys.stderr.write(f"{redact(str(error))}\n")
        return EXIT_USAGE


def run(config: AgentConfig, world: World) -> int:
    """Run the daemon until SIGTERM or SIGINT, or until its source has ended."""
    stop = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    # systemd's watchdog ends a hung agent by SIGABRT: then every thread's stack tells where it hung.
    faulthandler.enable()
    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    hand_over_quickly()
    keep_to(config.inference.threads)
    agent = Agent(config, world)
    agent.start()
    while not stop.is_set() and not agent.wait(0):
        stop.wait(LOOK_EVERY_S)
    # A disk or driver that hangs in the system cannot be waited for; what is durable is durable.
    last_resort = threading.Timer(STOP_WITHIN_S, os._exit, (EXIT_FAILED,))
    last_resort.daemon = True
    last_resort.start()
    agent.stop()
    last_resort.cancel()
    return EXIT_FAILED if agent.failed else EXIT_OK


def show_status(config: AgentConfig) -> int:
    """Write the last report; the exit code is 0 only if the agent runs."""
    running = is_running(config.data_dir / LOCK_FILE)
    path = config.data_dir / STATUS_FILE
    sys.stdout.write(
        f"agent {config.task_id}/{config.device_id}: {'running' if running else 'not running'}\n"
    )
    try:
        report = decode(DeviceReport, path.read_bytes(), where=str(path))
    except (OSError, ContractError):
        sys.stdout.write(f"no report yet at {path}\n")
        return EXIT_OK if running else EXIT_FAILED
    age_s = (utc_now() - report.reported_at).total_seconds()
    sys.stdout.write(f"as of {age_s:.0f} s ago; the metrics are of now\n")
    for name, value in report.model_dump(
        mode="json", exclude={"schema_version", "task_id", "device_id"}
    ).items():
        sys.stdout.write(f"  {name}: {_in_words(value)}\n")
    return EXIT_OK if running else EXIT_FAILED


def _in_words(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{one} {count}" for one, count in value.items())
    return str(value)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="whetstone-agent", description="Inspect parts on a factory box.")
    parser.add_argument("--version", action="version", version=agent_version())
    commands = parser.add_subparsers(dest="command", required=True)
    for name, words in (
        ("run", "run the daemon"),
        ("status", "say how the daemon fares"),
        ("doctor", "check the box and say what to do; exit code 0 good, 1 warnings, 2 failures"),
    ):
        command = commands.add_parser(name, help=words, description=words)
        command.add_argument("--config", type=Path, required=True, help="the agent's TOML file")
        if name == "doctor":
            command.add_argument("--json", action="store_true", help="write the findings as JSON")
            command.add_argument(
                "--test-outputs", action="store_true", help="switch every output once; only on a line at rest"
            )
            continue
        command.add_argument("--log-level", default="INFO", choices=("DEBUG", "INFO", "WARNING", "ERROR"))
        command.add_argument(
            "--log-format",
            default="auto",
            choices=("auto", "text", "json"),
            help="auto: text on a terminal, JSON elsewhere",
        )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
