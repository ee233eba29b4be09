"""Test that the line goes first."""

from __future__ import annotations

import os
import sys
import threading

from edge_agent.priority import BACKGROUND_NICENESS, SWITCH_INTERVAL_S, hand_over_quickly, in_background


def test_a_background_thread_yields_and_others_do_not() -> None:
    """Niceness is the thread's own: the loop's is left as it was."""
    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    seen: list[tuple[int, object]] = []

    def work(argument: object) -> None:
        seen.append((os.getpriority(os.PRIO_PROCESS, threading.get_native_id()), argument))

    thread = threading.Thread(target=in_background(work), args=("stop",))
    thread.start()
    thread.join(5)
    assert seen == [(max(before, BACKGROUND_NICENESS), "stop")]
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before


def test_the_interpreter_is_handed_over_quickly() -> None:
    """The loop waits for another thread's bytecode no longer than half a millisecond at a time."""
    before = sys.getswitchinterval()
    try:
        hand_over_quickly()
        assert abs(sys.getswitchinterval() - SWITCH_INTERVAL_S) < 1e-9
    finally:
        sys.setswitchinterval(before)
