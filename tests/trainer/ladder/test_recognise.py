"""Recognise memory's end by its errors: texts as torch, numpy, OpenCV and NCCL write them, and genuine ones."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import ROOT
from trainer.memory import Load, MemoryGroup, Room, SimulatedMemory, Surge, recognise, recognise_text
from trainer.memory.recognise import asked_bytes
from trainer.memory.trouble import SHARED_MEMORY

MIB = 2**20
GENUINE = """
import json, re, resource
import cv2, numpy, torch
from trainer.memory import recognise

def mapped():
    return int(re.search(r"VmSize:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024

resource.setrlimit(resource.RLIMIT_AS, (mapped() + 30 * 2**20, resource.RLIM_INFINITY))
causes = {
    "torch": lambda: torch.ones(200, 1024, 1024),
    "numpy": lambda: numpy.ones((200, 1024, 1024)),
    "cv2": lambda: cv2.resize(numpy.zeros((8, 8, 3), numpy.uint8), (9000, 9000)),
    "python": lambda: bytearray(10**9),
    "card": lambda: (_ for _ in ()).throw(torch.cuda.OutOfMemoryError("CUDA out of memory.")),
}
for name, cause in causes.items():
    try:
        cause()
    except Exception as error:
        found = recognise(error)
        told = [type(error).__name__, found and found.kind, found.asked_bytes if found else 0]
        print(json.dumps([name, *told]), flush=True)
"""


def test_genuine_errors_are_recognised() -> None:
    """Torch's CPU allocator, numpy, OpenCV and Python itself, each really out of address space, and torch's own."""
    ran = subprocess.run(
        [sys.executable, "-c", GENUINE], cwd=ROOT, capture_output=True, text=True, check=True
    )
    rows = {row[0]: row[1:] for row in map(json.loads, ran.stdout.splitlines())}
    assert set(rows) == {"torch", "numpy", "cv2", "python", "card"}, "a fault did not fire"
    assert rows["torch"] == ["RuntimeError", "host", 800 * MIB]
    assert rows["numpy"][1] == "host"
    assert rows["numpy"][2] == pytest.approx(1600 * MIB, rel=0.01), "numpy rounds what it says"
    assert rows["cv2"] == ["error", "host", 9000 * 9000 * 3]
    assert rows["python"][:2] == ["MemoryError", "host"]
    assert rows["card"][:2] == ["OutOfMemoryError", "device"]


@pytest.mark.parametrize(
    ("text", "kind", "cause"),
    [
        ("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has", "device", ""),
        ("CUDA error: out of memory\nCUDA kernel errors might be", "device", ""),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", "device", ""),
        ("NCCL error in: ProcessGroupNCCL.cpp:1970, Failed to CUDA calloc 6291456 bytes: out of memory", "device", ""),
        ("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried", "host", ""),
        ("DataLoader worker (pid 4711) is killed by signal: Killed. ", "host", ""),
        ("DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers"
         " are out of shared memory. Please try to raise your shared memory limit.", "host", SHARED_MEMORY),
        ("unable to open shared memory object </torch_22_1> in read-write mode: No space left", "host", SHARED_MEMORY),
        ("OpenBLAS error: Memory allocation still failed after 10 retries, giving up.", "host", ""),
        ("libgomp: Out of memory allocating 4096 bytes", "host", ""),
        ("terminate called after throwing an instance of 'std::bad_alloc'", "host", ""),
        ("(-4:Insufficient memory) Failed to allocate 108000000 bytes in function 'OutOfMemoryError'", "host", ""),
    ],
)  # fmt: skip
def test_texts_that_always_mean_memory(text: str, kind: str, cause: str) -> None:
    """Words of each library are known, alone and as the error that carries them."""
    found = recognise_text(text)
    assert found is not None
    assert (found.kind, found.cause) == (kind, cause)
    assert recognise(RuntimeError(text)) == found


@pytest.mark.parametrize(
    "text",
    [
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR",
        "GET was unable to find an engine to execute this computation",
        "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. This error may appear if you passed in a non-contiguous input.",
    ],
)
def test_texts_that_mean_memory_only_where_it_is_short(text: str) -> None:
    """What cuDNN says may mean anything; with a nearly full card it means memory, with an empty one it is another error."""
    assert recognise(RuntimeError(text)) is None
    found = recognise(RuntimeError(text), Room(device_short=True))
    assert found is not None
    assert found.kind == "device"


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("shape '[1, 2]' is invalid for input of size 3"),
        ValueError("CUDA out of memory in the name of a file"),
        FileNotFoundError(errno.ENOENT, "no such file", "images/a.jpg"),
        OSError(errno.ENOSPC, "No space left on device", "/data/checkpoint.pt"),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
    ],
)
def test_other_errors_are_left_alone(error: Exception) -> None:
    """A full disk, a bug or a bad argument never leads down a rung."""
    assert recognise(error) is None


def test_an_error_is_known_by_its_cause() -> None:
    """Memory that ran out below an error of another kind counts."""
    try:
        try:
            raise MemoryError
        except MemoryError as cause:
            raise ValueError("image could not be read") from cause
    except ValueError as error:
        found = recognise(error)
    assert found is not None
    assert found.kind == "host"
    assert recognise(OSError(errno.ENOMEM, "Cannot allocate memory")) is not None


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("Tried to allocate 2.50 GiB. GPU", int(2.5 * 2**30)),
        ("you tried to allocate 419430400 bytes. Error", 419430400),
        ("Unable to allocate 25.8 MiB for an array", int(25.8 * MIB)),
        ("Failed to allocate 27000000 bytes", 27000000),
        ("nothing of the kind", 0),
    ],
)
def test_the_bytes_asked_for_are_read(text: str, count: int) -> None:
    """The allocation that failed is known where the error tells."""
    assert asked_bytes(text) == count


def _group_files(root: Path, version: int) -> Path:
    """Write a memory cgroup of a container as the kernel shows it; a documented stand-in for the real one."""
    if version == 1:
        folder = root / "cgroup" / "memory" / "job"
        files = {"memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
                 "memory.limit_in_bytes": "9223372036854771712\n"}  # fmt: skip
        (root / "proc.txt").write_text("4:cpu,memory:/job\n0::/\n")
    else:
        folder = root / "cgroup" / "job"
        files = {
            "memory.events": "low 0\nhigh 0\nmax 9\noom 3\noom_kill 2\noom_group_kill 0\n",
            "memory.max": "max\n",
        }
        (root / "proc.txt").write_text("0::/job\n")
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_text(content)
    (root / "proc" / "1").mkdir(parents=True)
    (root / "proc.txt").rename(root / "proc" / "1" / "cgroup")
    return folder


@pytest.mark.parametrize("version", [1, 2])
def test_both_versions_of_cgroups_are_read(tmp_path: Path, version: int) -> None:
    """Kills are counted, "no limit" is none, and the smallest limit above counts."""
    folder = _group_files(tmp_path, version)
    group = MemoryGroup.of(1, root=tmp_path / "cgroup", proc=tmp_path / "proc")
    assert group is not None
    assert (group.version, group.kills(), group.limit()) == (version, 2, None)
    name = "memory.limit_in_bytes" if version == 1 else "memory.max"
    (folder.parent / name).write_text(f"{512 * MIB}\n")
    assert group.limit() == 512 * MIB
    assert MemoryGroup.of(2, root=tmp_path / "cgroup", proc=tmp_path / "proc") is None


def test_a_simulated_card_needs_what_a_real_one_does_more_or_less_of() -> None:
    """The need falls with every rung, and appears at its moment alone."""
    card = SimulatedMemory(card_bytes=MIB, surges=(Surge(moment="loss", epoch=2, step=3, factor=2.0),))
    full = Load(batch=16, image_size=128, mosaic=True, mixing=True, expandable=False, model="a/large.yaml")
    small = SimulatedMemory(card_bytes=MIB, model_shares={"large.yaml": 0.5})
    lighter = [
        Load(8, 128, mosaic=True, mixing=True, expandable=False), Load(16, 128, half=True, mosaic=True, mixing=True),
        Load(16, 128, mosaic=True), Load(16, 128, mixing=True), Load(16, 64, mosaic=True, mixing=True),
        Load(16, 128, mosaic=True, mixing=True, expandable=True),
    ]  # fmt: skip
    assert all(card.need(one) < card.need(full) for one in lighter)
    assert small.need(full) < card.need(full)
    assert card.need_at("loss", 2, 2, full) == card.fixed_bytes
    assert card.need_at("backward", 2, 3, full) == card.fixed_bytes
    assert card.need_at("loss", 3, 1, full) > card.need(full)
