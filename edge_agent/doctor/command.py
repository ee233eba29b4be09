"""Be `whetstone-agent doctor`: read the configuration, run every check, write what was found."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from edge_agent.care.running import is_running
from edge_agent.config import load_config
from edge_agent.data_folder import LOCK_FILE
from edge_agent.doctor.broker import BrokerCheck
from edge_agent.doctor.camera import CameraCheck
from edge_agent.doctor.certificates import CertificateCheck
from edge_agent.doctor.clock import ClockCheck
from edge_agent.doctor.context import Patient
from edge_agent.doctor.disk import DiskCheck
from edge_agent.doctor.finding import Check, Finding, as_text, as_values, exit_code
from edge_agent.doctor.machine import MachineCheck
from edge_agent.doctor.model import ModelCheck
from edge_agent.doctor.outputs import OutputCheck
from edge_agent.doctor.providers import ProviderCheck
from edge_agent.doctor.releases import ReleaseCheck
from edge_agent.doctor.store import StoreCheck
from edge_agent.errors import ConfigError, WrongConfig
from edge_agent.redaction import redact


def run_doctor(path: Path, *, as_json: bool, test_outputs: bool) -> int:
    """Check the box, write the findings to stdout, return the exit code."""
    # What the parts log while they are tried stands in the findings.
    logging.disable(logging.CRITICAL)
    try:
        findings = look_at(path, test_outputs=test_outputs)
    finally:
        logging.disable(logging.NOTSET)
    if as_json:
        sys.stdout.write(json.dumps(as_values(findings), indent=1) + "\n")
    else:
        sys.stdout.write(as_text(findings))
    return exit_code(findings)


def look_at(path: Path, *, test_outputs: bool) -> list[Finding]:
    """Return what every check found; a wrong configuration leaves nothing else to check."""
    try:
        config = load_config(path)
    except ConfigError as error:
        return list(judge_config(error))
    running = is_running(config.data_dir / LOCK_FILE)
    first = Finding("ok", "configuration", f"{path}; the agent {'runs' if running else 'does not run'}")
    found = (first, *examine(checks_of(Patient(config, running, test_outputs))))
    # Addresses and libraries' words may hold credentials, and what a doctor says is sent around.
    return [replace(one, found=redact(one.found), now=redact(one.now)) for one in found]


def judge_config(error: ConfigError) -> Iterator[Finding]:
    """Turn every mistake of a configuration into a finding."""
    if not isinstance(error, WrongConfig):
        yield Finding("fail", "configuration", str(error), "Nothing else can be checked before.")
        return
    for mistake in error.mistakes:
        yield Finding("fail", "configuration", f"{error.where}: {mistake}", "Correct this key.")


def checks_of(patient: Patient) -> tuple[Check, ...]:
    """Return every check, those first that others depend on."""
    return (
        MachineCheck(),
        DiskCheck(patient),
        ClockCheck(patient),
        CertificateCheck(patient),
        ProviderCheck(),
        CameraCheck(patient),
        ModelCheck(patient),
        BrokerCheck(patient),
        ReleaseCheck(patient),
        StoreCheck(patient),
        OutputCheck(patient),
    )


def examine(checks: Iterable[Check]) -> Iterator[Finding]:
    """Run the checks; one that fails by an error of its own is a finding and spares the others."""
    for check in checks:
        try:
            yield from check.check()
        except Exception as error:  # noqa: BLE001 - a check meets broken machines; that is what it is for
            words = redact(f"the check itself failed: {type(error).__name__}: {error}")
            yield Finding("fail", check.name, words, "Please report this with the output of --json.")
