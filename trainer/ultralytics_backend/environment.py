"""Tame ultralytics before it is imported: no installs, no downloads, no telemetry, settings in our folder.

ultralytics acts at import (DNS look-ups, a settings file, run-time pip installs), so the child
calls `prepare` first and imports it after.
"""

from __future__ import annotations

import ctypes
import os
import signal
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def prepare(config_folder: Path, *, threads: int, niceness: int, expandable_segments: bool = True) -> None:
    """Set the environment that ultralytics and torch read at import, and yield to the line's processes.

    Args:
        config_folder: where ultralytics may keep its settings file.
        threads: threads for torch; 0 for every core this process may use.
        niceness: added to the process's nice value.
        expandable_segments: whether CUDA's allocator shall use segments that grow, unless the environment
            says how it shall work.
    """
    config_folder.mkdir(parents=True, exist_ok=True)
    os.environ.update(
        YOLO_AUTOINSTALL="False",
        ULTRALYTICS_SKIP_REQUIREMENTS_CHECKS="1",
        YOLO_OFFLINE="1",
        YOLO_VERBOSE="False",
        YOLO_CONFIG_DIR=str(config_folder),
        MPLCONFIGDIR=str(config_folder),
        WANDB_MODE="disabled",
        OMP_NUM_THREADS=str(usable_threads(threads)),
        # Threads that spin while they wait cost four times the processor time where others work beside us;
        # those that never do lose a quarter of the speed where nobody does. A short spin costs neither.
        GOMP_SPINCOUNT="1000",
    )
    if expandable_segments:
        os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    os.nice(niceness)


def usable_threads(asked: int) -> int:
    """Return the number of threads to use: what was asked, or every core this process may run on."""
    return asked or len(os.sched_getaffinity(0))


def silence_ultralytics() -> None:
    """Switch the settings off that would talk to somebody; needs `prepare` and the import before it."""
    from ultralytics.utils import SETTINGS

    # ultralytics turns events off by itself when offline; what a person's settings file says must not matter.
    wanted = {
        "sync": False,
        **dict.fromkeys(
            ("clearml", "comet", "dvc", "hub", "mlflow", "neptune", "raytune", "tensorboard", "wandb"), False
        ),
    }
    SETTINGS.update({name: value for name, value in wanted.items() if name in SETTINGS})


def die_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process when its parent ends, so that no training outlives its run.

    Args:
        parent: pid of the process that started this one; if it is gone already, end at once.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
