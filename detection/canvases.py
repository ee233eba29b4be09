"""Keep a few canvases, so that the next frame is drawn on one while the engine reads another."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from detection.letterbox import Letterbox

CANVASES = 3
"""One is read by the engine, one holds the next frame, one is free for a newer frame than that."""


@dataclass(slots=True, eq=False)
class Canvas:
    """Hold one canvas, and which drawing it shows.

    Attributes:
        index: the engine's number of it.
        ticket: of the drawing on it; another ticket, another drawing.
        is_busy: somebody draws on it or the engine reads it.
    """

    index: int
    letterbox: Letterbox
    ticket: int = 0
    is_busy: bool = field(default=False)


class CanvasRing:
    """Lend canvases to a thread that draws and a thread that runs the engine.

    A drawing that nobody came for is drawn over when its canvas is the oldest, so nothing has to be given up.
    """

    def __init__(self, letterboxes: Sequence[Letterbox]) -> None:
        self._canvases = [Canvas(index, letterbox) for index, letterbox in enumerate(letterboxes)]
        self._lock = threading.Lock()
        self._freed = threading.Condition(self._lock)
        self._tickets = 0

    def take(self) -> Canvas:
        """Return the canvas of the oldest drawing, under a new ticket, to draw on; `put` it back."""
        with self._lock:
            while True:
                chosen: Canvas | None = None
                for canvas in self._canvases:
                    if not canvas.is_busy and (chosen is None or canvas.ticket < chosen.ticket):
                        chosen = canvas
                if chosen is not None:
                    break
                # More threads than canvases: never so on the box, where two threads share three.
                self._freed.wait()
            self._tickets += 1
            chosen.ticket = self._tickets
            chosen.is_busy = True
            return chosen

    def claim(self, canvas: Canvas, ticket: int) -> bool:
        """Keep others from drawing while the engine reads; False if the drawing is not there any more."""
        with self._lock:
            if canvas.is_busy or canvas.ticket != ticket:
                return False
            canvas.is_busy = True
            return True

    def put(self, canvas: Canvas) -> None:
        """Say that drawing or reading has ended."""
        with self._lock:
            canvas.is_busy = False
            self._freed.notify()
