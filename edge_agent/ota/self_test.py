"""Let a new model prove itself on the release's probe images, in a process of its own.

A model can take the engine, and with it the process, down; so the agent never loads one that a child has
not survived. The child prints one line of JSON; a crash, a timeout or any other output is a failure.

    python -m edge_agent.ota.self_test FOLDER --threads 1 --deadline 180
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from detection.errors import DetectionError
from detection.session import Detector, DetectorOptions
from edge_agent.ota.errors import SelfTestBroken, SelfTestFailed
from edge_agent.ota.probes import differences
from fleet_contracts.base import Value, decode, encode
from fleet_contracts.errors import ContractError
from fleet_contracts.releases import Probe, Release


class SelfTestVerdict(Value):
    """Say how a model did; `engine_ms` is the median over the probe images."""

    passed: bool
    problem: str = ""
    probes: int = 0
    provider: str = ""
    engine_ms: float = 0.0


class SelfTest(Protocol):
    """Let the release in a folder prove itself."""

    def run(self, folder: Path) -> SelfTestVerdict:
        """Return the verdict of a release that passed.

        Raises:
            SelfTestFailed: it computes something else than in the cloud.
            SelfTestBroken: the test did not come to an end.
        """
        ...


@dataclass(frozen=True, slots=True)
class ChildSelfTest:
    """Run the self-test in a child process.

    Args:
        deadline_s: after which the child is killed.
        threads: the child computes with, beside the loop.
    """

    deadline_s: float = 180.0
    threads: int = 1

    def run(self, folder: Path) -> SelfTestVerdict:
        """Start the child, wait for its line, raise unless it passed."""
        command = [sys.executable, "-m", "edge_agent.ota.self_test", str(folder),
                   "--threads", str(self.threads), "--deadline", str(int(self.deadline_s) + 1)]
        try:
            done = subprocess.run(command, capture_output=True, timeout=self.deadline_s, check=False,
                                  stdin=subprocess.DEVNULL)
        except subprocess.TimeoutExpired as error:
            raise SelfTestBroken(expected=f"a verdict within {self.deadline_s:g} s", got="none",
                                 where=str(folder)) from error
        try:
            lines = done.stdout.splitlines()
            verdict = decode(SelfTestVerdict, lines[-1] if lines else b"", where="self-test")
        except ContractError as error:
            said = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["nothing"]
            raise SelfTestBroken(expected="a verdict", got=f"exit {done.returncode}, {said[0][:300]}",
                                 where=str(folder)) from error
        return passed(verdict, folder)


@dataclass(frozen=True, slots=True)
class InProcessSelfTest:
    """Run the self-test in this process: the twin for tests, never for a box."""

    def run(self, folder: Path) -> SelfTestVerdict:
        """Test here and now."""
        return passed(examine(folder, threads=1), folder)


def passed(verdict: SelfTestVerdict, folder: Path) -> SelfTestVerdict:
    """Return the verdict if it is a good one.

    Raises:
        SelfTestFailed: it is not.
    """
    if not verdict.passed or verdict.probes < 1:
        raise SelfTestFailed(expected="the detections the cloud saw on the probe images",
                             got=verdict.problem or "no probe image was tested", where=str(folder),
                             now="The old model keeps serving; look at how this model was exported.")
    return verdict


def examine(folder: Path, *, threads: int) -> SelfTestVerdict:
    """Load the release in `folder` and hold it against its own words.

    Steps: (1) the model's own metadata says what the release says: hash, input, class list; (2) on every
    probe image it finds what the cloud found.
    """
    try:
        release = decode(Release, (folder / "release.json").read_bytes(), where=str(folder / "release.json"))
        detector = Detector.load(folder / release.model.path, options=DetectorOptions(threads=threads))
    except (OSError, ContractError, DetectionError) as error:
        return SelfTestVerdict(passed=False, problem=f"the model does not load: {error}")
    said = (detector.model_id, detector.class_names, detector.spec)  # (1)
    wanted = (release.model_id, release.class_list.names, release.input_spec)
    if said != wanted:
        return SelfTestVerdict(passed=False, problem=f"the release says {wanted}, the model itself {said}")
    problems: list[str] = []
    times: list[float] = []
    for probe in release.probes:  # (2)
        try:
            problems += _examine_probe(detector, folder, probe, times)
        except DetectionError as error:
            problems.append(f"{probe.artifact.path}: {error}")
    return SelfTestVerdict(passed=not problems, problem="; ".join(problems[:5]), probes=len(release.probes),
                           provider=detector.provider, engine_ms=statistics.median(times) if times else 0.0)


def main() -> int:
    """Test the release in a folder and print the verdict as one line of JSON."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--deadline", type=int, default=180)
    arguments = parser.parse_args()
    # If the agent dies meanwhile, nobody else ends this child.
    signal.alarm(arguments.deadline)
    os.nice(10)
    verdict = examine(arguments.folder, threads=arguments.threads)
    sys.stdout.write(encode(verdict).decode() + "\n")
    return 0


def _examine_probe(detector: Detector, folder: Path, probe: Probe, times: list[float]) -> list[str]:
    name = probe.artifact.path
    frame = cv2.imread(str(folder / name), cv2.IMREAD_COLOR)
    if frame is None:
        return [f"{name}: does not decode"]
    found = detector.infer(frame.astype(np.uint8, copy=False))
    times.append(found.engine_ms)
    return [f"{name}: {words}" for words in differences(probe.expected, found.detections.to_boxes())]


if __name__ == "__main__":
    sys.exit(main())
