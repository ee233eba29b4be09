"""Be the tracing child: write `profile.json` into the request's folder, or `failure.json` with the reason."""

from __future__ import annotations

import sys
from pathlib import Path

from trainer.backend_job import write_whole
from trainer.errors import StartRefused
from trainer.ultralytics_backend import environment
from trainer.vram.request import TraceFailure, TraceRequest


def main(arguments: list[str]) -> int:
    """Trace the network named on the command line; the exit status is 0 when its profile was written."""
    request = TraceRequest.model_validate_json(Path(arguments[0]).read_bytes())
    environment.die_with_parent(int(arguments[1]))
    environment.prepare(request.out / "ultralytics-config", threads=request.threads, niceness=0)
    import torch

    from trainer.ultralytics_backend.tracing.profile import make_profile

    environment.silence_ultralytics()
    torch.set_num_threads(environment.usable_threads(request.threads))
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    try:
        profile = make_profile(request)
    except StartRefused as error:
        failure = TraceFailure(expected=error.expected, got=error.got, where=error.where, now=error.now)
        write_whole(request.out / "failure.json", failure.model_dump_json().encode())
        return 1
    write_whole(request.out / "profile.json", profile.model_dump_json().encode())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
