"""Start, hear and kill the child process that holds a camera."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from collections import deque
from contextlib import suppress
from dataclasses import replace

from edge_agent.sources.grab import SourceJob
from edge_agent.sources.ring import Arrived, Remark, RingReader

KILL_WAIT_S = 1.0
LAST_WORDS_BYTES = 2000


class CameraProcess:
    """Be one child; it opens its source once and is never used again.

    It must be started by the thread that outlives it, for the kernel kills it with that thread.
    """

    def __init__(self, job: SourceJob) -> None:
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._errors, errors_far = os.pipe()
        try:
            # A child that complains without end must neither block nor fill anything.
            os.set_blocking(self._errors, False)
            os.set_blocking(errors_far, False)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "edge_agent.sources.child", str(far.fileno())],
                stdin=subprocess.PIPE,
                bufsize=0,
                stdout=subprocess.DEVNULL,
                stderr=errors_far,
                pass_fds=(far.fileno(),),
                start_new_session=True,
            )
        except OSError:
            near.close()
            os.close(self._errors)
            raise
        finally:
            far.close()
            os.close(errors_far)
        self._words: deque[bytes] = deque(maxlen=8)
        self._socket = near
        self._ring = RingReader(near)
        self._poll = select.poll()
        self._poll.register(near, select.POLLIN)
        self._tell(replace(job, parent=os.getpid()))

    @property
    def pid(self) -> int:
        """Return the child's process number, which is its group's too."""
        return self._process.pid

    @property
    def dropped(self) -> int:
        """Return how many frames the child dropped because all buffers were in use."""
        return self._ring.dropped

    def receive(self, wait_s: float) -> list[Arrived | Remark]:
        """Return what came within `wait_s` seconds; an empty list is a sign of life.

        Raises:
            TimeoutError: nothing came.
            EOFError: the child has ended.
        """
        self._ring.lend()
        if not self._poll.poll(max(0.0, wait_s) * 1000):
            raise TimeoutError
        try:
            found = self._ring.receive()
        except BlockingIOError as error:
            raise TimeoutError from error
        self._read_errors()
        return found

    def last_words(self) -> str:
        """Return the end of what the child wrote to stderr; it may hold a password."""
        self._read_errors()
        return b"".join(self._words)[-LAST_WORDS_BYTES:].decode("utf-8", "replace").strip()

    def end(self) -> subprocess.Popen[bytes] | None:
        """Kill the child and all it started; return what did not die within a second, else None.

        A process that hangs in the system dies only when the system lets go of it.
        """
        # The group's number stays taken until the child is reaped below, so that no stranger is hit.
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._poll.unregister(self._socket)
        self._socket.close()
        os.close(self._errors)
        try:
            self._process.wait(KILL_WAIT_S)
        except subprocess.TimeoutExpired:
            return self._process
        return None

    def _tell(self, job: SourceJob) -> None:
        assert self._process.stdin is not None
        # Should it have died at once, the socket's end says so.
        with self._process.stdin as pipe, suppress(BrokenPipeError):
            pipe.write(job.to_json())

    def _read_errors(self) -> None:
        try:
            while chunk := os.read(self._errors, LAST_WORDS_BYTES):
                self._words.append(chunk)
        except BlockingIOError:
            return
