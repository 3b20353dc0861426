"""Runs under torchrun for `test_processes.py`: every process gets the same list of jobs.

    torchrun --nproc-per-node 2 many_processes.py JOBS.json

A job is {recipe, out, changes, resume, end_at, exit_at}: `end_at` breaks all processes off in the
midst of that update, `exit_at` kills the last of them there.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch.distributed as dist

import unmask
from unmask.training import loop


class EndError(Exception):
    """The job is to be broken off here."""


def main() -> None:
    dist.init_process_group("gloo")
    for job in json.loads(Path(sys.argv[1]).read_text()):
        whole = loop.gradient

        def gradient(
            model: Any, chunks: Any, options: Any, number: int, *more: Any, job: Any = job
        ) -> Any:
            if number == job.get("end_at"):
                raise EndError
            last = os.environ["RANK"] == str(int(os.environ["WORLD_SIZE"]) - 1)
            if number == job.get("exit_at") and last:
                os._exit(9)
            return whole(model, chunks, options, number, *more)  # noqa: B023

        loop.gradient = gradient  # type: ignore[assignment]
        try:
            unmask.train(job["recipe"], job["out"], job["changes"], resume=job.get("resume", False))
        except EndError:
            pass
        finally:
            loop.gradient = whole
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
