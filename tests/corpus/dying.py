"""A stage that is killed, for `test_build.py`: it must be found by its name in a new process."""

import os
import signal
from pathlib import Path


def die(folder: Path, unit: int) -> None:
    """Be killed, as for want of memory."""
    os.kill(os.getpid(), signal.SIGKILL)
