"""SIGTERM and Ctrl-C in the midst of training: the step is finished and saved first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Stopped(BaseException):
    """Work that saves nothing of its own was interrupted."""


class Stop:
    """Within this context SIGTERM and SIGINT are noted in `asked`, for the loop to look at.

    A second SIGINT interrupts at once. Signals reach only a process's main thread: elsewhere
    nothing is noted.
    """

    _SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self.asked: int | None = None
        self._at_once = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            for number in self._SIGNALS:
                before = signal.getsignal(number)
                if before not in (signal.SIG_IGN, None):  # None: a handler that Python cannot name
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def go(self, number: int) -> None:
        """Do what the signal of this number would have done before this context; never return."""
        self.__exit__()
        signal.raise_signal(number)
        raise SystemExit(128 + number)  # where the signal would not have ended the process

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Work that may be broken off anywhere, such as scoring: raises `Stopped`."""
        self._at_once = True
        try:
            if self.asked is not None:
                raise Stopped
            yield
        finally:
            self._at_once = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        again = self.asked is not None and number == signal.SIGINT
        self.asked = self.asked or number
        if self._at_once or again:
            raise Stopped if self._at_once else KeyboardInterrupt
