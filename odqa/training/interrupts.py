"""Ctrl-C and termination signals: a request to stop, not an end in the middle of a step."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def stop_requests(*, forceable: bool) -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C or a termination signal came; a second Ctrl-C ends at once."""
    asked = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked and forceable and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not asked:
            logger.warning("stopping after this step; Ctrl-C again to stop at once")
        asked = True

    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, ask)
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
