"""Where the command starts and ends: one line for a user's mistake, and the exit code."""

from __future__ import annotations

import io
import logging
import os
import signal
import sys
from types import FrameType

from unmask.errors import UserError


def main() -> None:
    """Run the command; exit code 2 for a user's mistake, 130 for Ctrl-C, 143 for SIGTERM."""
    # Torch asks the system for large pages for large tensors: fewer to fill, and fewer gaps between
    # batches of ever other shapes. It reads this once, when it first needs memory.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    signal.signal(signal.SIGTERM, _terminate)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # where the locale lacks a character
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("unmask").setLevel(logging.INFO)
    try:
        from unmask.cli.app import app  # here, so that Ctrl-C is heard while it is imported

        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
    except UserError as error:
        _end(str(error), 2)
    except _Terminated:
        _end("terminated; nothing half-written was left behind", 143)
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has left: nothing to say, and no one to
        sys.exit(1)
    except KeyboardInterrupt:
        code = 130
    except Exception as error:
        if not hasattr(error, "format_message"):  # the parser's errors, whichever their class
            raise
        _end(f"{error.format_message()} (unmask --help shows how)", 2)
    if code == 130:
        _end("stopped; nothing half-written was left behind", 130)
    sys.exit(code)


class _Terminated(BaseException):
    """SIGTERM came; everything is left as by Ctrl-C."""


def _terminate(number: int, frame: FrameType | None) -> None:
    raise _Terminated


def _end(message: str, code: int) -> None:
    print(f"unmask: {message}", file=sys.stderr)
    sys.exit(code)
