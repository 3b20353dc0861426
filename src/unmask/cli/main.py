"""Where the command starts and ends: one line for a user's mistake, and the exit code."""

from __future__ import annotations

import logging
import sys

from unmask.errors import UserError


def main() -> None:
    """Run the command; exit code 2 for a user's mistake, 130 for Ctrl-C."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("unmask").setLevel(logging.INFO)
    try:
        from unmask.cli.app import app  # here, so that Ctrl-C is heard while it is imported

        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
    except UserError as error:
        _end(str(error), 2)
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


def _end(message: str, code: int) -> None:
    print(f"unmask: {message}", file=sys.stderr)
    sys.exit(code)
