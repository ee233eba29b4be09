"""Connect an output aside of its worker: names and handshakes take what they take."""

from __future__ import annotations

import logging
import threading

from edge_agent.errors import OutputAway
from edge_agent.outputs.base import Output
from edge_agent.outputs.waker import Waker

logger = logging.getLogger("whetstone.edge.outputs")


class Attempt:
    """Connect once on a thread of its own; the worker goes on judging meanwhile."""

    def __init__(self, output: Output, bell: Waker) -> None:
        self._output = output
        self._bell = bell
        self._problem: str | None = None
        threading.Thread(target=self._run, name="output-connect", daemon=True).start()

    def outcome(self) -> str | None:
        """Return the problem, "" when it is connected, or None while nobody knows."""
        return self._problem

    def _run(self) -> None:
        try:
            self._output.close()
            self._output.connect()
            self._problem = ""
        except OutputAway as error:
            self._problem = str(error)
        except Exception as error:  # the thread's outer edge: the worker tells it as any other problem
            logger.exception("output.connect-failed")
            self._problem = f"{type(error).__name__}: {error}"
        self._bell.wake()
