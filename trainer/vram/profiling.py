"""Have a network traced in a child process, once for each content, and keep what was found."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import ValidationError

from trainer.backend_job import write_whole
from trainer.vram.errors import EstimateRefused, TraceFailed
from trainer.vram.profile import ModelProfile
from trainer.vram.request import RECIPE, TraceFailure, TraceRequest

_SECONDS = 180.0
"""A trace takes seconds; one that takes minutes hangs or the machine is swamped."""
_TAIL = 2000
_ASKED_NAMES = (".yaml", ".yml", ".pt")


def profile_of(
    model: str | Path,
    classes: int | Sequence[str],
    *,
    cache: Path | None = None,
    freeze_layers: int = 0,
    threads: int = 0,
) -> ModelProfile:
    """Return the profile of a network built for a class list, traced in a child or from the cache.

    Args:
        model: a model yaml (a file, or a name ultralytics knows such as `yolo11n.yaml`; without an ending
            the yaml is meant), or a trusted `.pt`: it is unpickled.
        classes: the class list or its length; a `.pt` must know a prefix of it.
        cache: folder for profiles; one is taken up again where network, classes and versions are the same.
        freeze_layers: layers at the network's head that are not trained; what they keep is traced so.
        threads: processor threads; 0 for all.

    Raises:
        EstimateRefused: an unknown name, no detection model, or classes that do not fit it.
        TraceFailed: the child died or took too long.
    """
    names = () if isinstance(classes, int) else tuple(classes)
    count = classes if isinstance(classes, int) else len(names)
    asked = _asked(model)
    if count < 1:
        raise EstimateRefused(expected="at least one class", got=str(count), where=f"profile of {asked}")
    place = cache / f"{_key(asked, count, names, freeze_layers)}.json" if cache is not None else None
    if place is not None:
        known = _read(place)
        if known is not None:
            return known
    with tempfile.TemporaryDirectory(prefix="whetstone-trace-") as folder:
        request = TraceRequest(model=asked, classes=count, class_names=names, freeze_layers=freeze_layers,
                               threads=threads, out=Path(folder))  # fmt: skip
        profile = _traced(request)
    if place is not None:
        place.parent.mkdir(parents=True, exist_ok=True)
        write_whole(place, profile.model_dump_json().encode())
    return profile


def _asked(model: str | Path) -> str:
    """Return what the child is asked for: a yaml name gets its ending, v5u names their yaml's."""
    text = str(model)
    if not text.endswith(_ASKED_NAMES):
        text = f"{text}.yaml"
    if Path(text).is_file():
        return str(Path(text).resolve())
    if text.endswith(".pt") or "/" in text:
        raise EstimateRefused(expected="a file", got="none", where=text, now="Check the path.")
    stem = text.removesuffix(".yaml").removesuffix(".yml")
    # The published v5 weights with the anchor-free head are called v5u; ultralytics' yaml is without the u.
    return f"{stem.removesuffix('u')}.yaml" if stem.startswith("yolov5") else text


def _key(asked: str, count: int, names: tuple[str, ...], frozen: int) -> str:
    """Name a profile by what decides it; names of classes decide nothing but whether a `.pt` fits them."""
    content = Path(asked).read_bytes() if Path(asked).is_file() else asked.encode()
    told = (
        RECIPE,
        count,
        names if asked.endswith(".pt") else (),
        frozen,
        _version("torch"),
        _version("ultralytics"),
    )
    return hashlib.sha256(hashlib.sha256(content).digest() + repr(told).encode()).hexdigest()[:32]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _read(place: Path) -> ModelProfile | None:
    """Return a profile from the cache; one that cannot be read is made again."""
    if not place.is_file():
        return None
    try:
        return ModelProfile.model_validate_json(place.read_bytes())
    except ValidationError:
        place.unlink(missing_ok=True)
        return None


def _traced(request: TraceRequest) -> ModelProfile:
    asking = request.out / "request.json"
    write_whole(asking, request.model_dump_json().encode())
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    command = [sys.executable, "-m", "trainer.ultralytics_backend.tracing", str(asking), str(os.getpid())]
    where = f"trace of {Path(request.model).name}"
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": path}, timeout=_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise TraceFailed(
            expected=f"a profile within {_SECONDS:.0f} s",
            got="none",
            where=where,
            now="Try again on a quieter machine, or plan with a sketched profile.",
        ) from error
    failure, result = request.out / "failure.json", request.out / "profile.json"
    if failure.is_file():
        told = TraceFailure.model_validate_json(failure.read_bytes())
        raise EstimateRefused(expected=told.expected, got=told.got, where=told.where, now=told.now)
    if done.returncode or not result.is_file():
        tail = done.stdout[-_TAIL:].decode(errors="replace").strip()
        raise TraceFailed(
            expected="a profile", got=f"exit status {done.returncode}; the log ends: {tail}", where=where
        )
    return ModelProfile.model_validate_json(result.read_bytes())
