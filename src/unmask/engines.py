"""Who does the work: processes of this machine, or Ray. Both run the very same functions."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from unmask.errors import UserError

Stage = Callable[[Path, int], None]  # does one unit of the work in a folder
# Does so many units of a stage, in any order; something comes for each that is done.
Run = Callable[[Stage, Path, int], Iterator[None]]
Engine = Literal["processes", "ray"]


def engine(name: Engine, workers: int) -> AbstractContextManager[Run]:
    """What runs stages, as long as this is open."""
    if name == "ray":
        return _ray(workers)
    return _here() if workers == 1 else _processes(workers)


@contextmanager
def _here() -> Iterator[Run]:
    def run(stage: Stage, folder: Path, units: int) -> Iterator[None]:
        for unit in range(units):
            stage(folder, unit)
            yield

    yield run


@contextmanager
def _processes(workers: int) -> Iterator[Run]:
    known = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")  # a fork would share locks of other threads
    with ProcessPoolExecutor(workers, context, initializer=_begin) as pool:

        def run(stage: Stage, folder: Path, units: int) -> Iterator[None]:
            rest = iter(range(units))
            under_way = {pool.submit(stage, folder, unit) for unit in islice(rest, 2 * workers)}
            while under_way:
                done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                for one in done:
                    yield one.result()
                under_way |= {pool.submit(stage, folder, u) for u in islice(rest, len(done))}

        try:
            yield run
        except BrokenProcessPool:
            raise UserError(
                "a process at work was killed, perhaps for want of memory; what was done is "
                "kept: give the same command again, with fewer --workers"
            ) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in set(multiprocessing.active_children()) - known:
                process.terminate()  # what it was writing has a name that nobody reads
            raise


def _begin() -> None:
    """In a new process: leave Ctrl-C to the one above, and do not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    above = multiprocessing.parent_process()
    assert above is not None

    def watch() -> None:
        above.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _ray(workers: int) -> Iterator[Run]:
    ray = _imported()
    began = not ray.is_initialized()
    if began:  # with `ray.init` or RAY_ADDRESS before, it is the cluster's own number of workers
        for name in ("ray", "ray.data"):
            logging.getLogger(name).setLevel(logging.ERROR)
        cpus = None if os.environ.get("RAY_ADDRESS") else workers
        try:
            ray.init(
                num_cpus=cpus, include_dashboard=False, log_to_driver=False, logging_level="ERROR"
            )
        except Exception as error:  # of Ray's, the network's and the machine's classes
            reason = str(error).partition("\n")[0].rstrip(".")
            raise UserError(
                f"Ray could not be started or reached ({reason}): give the same command again, "
                "mend RAY_ADDRESS, or take --engine processes"
            ) from None
    ray.data.DataContext.get_current().enable_progress_bars = False

    def run(stage: Stage, folder: Path, units: int) -> Iterator[None]:
        def work(row: dict[str, Any]) -> dict[str, Any]:
            stage(folder, int(row["unit"]))
            return row

        rows = ray.data.from_items(
            [{"unit": unit} for unit in range(units)], override_num_blocks=min(units, 1024)
        )
        for _ in rows.map(work).iter_rows():
            yield

    try:
        yield run
    except Exception as error:
        told = _user_error(error)
        if told is None:
            raise
        raise UserError(str(told)) from None
    finally:
        if began:
            ray.shutdown()


def _user_error(error: BaseException | None) -> UserError | None:
    """What a stage told, in the wrappings that Ray hands errors on in."""
    while error is not None and not isinstance(error, UserError):
        error = getattr(error, "cause", None) or error.__cause__
    return error


def _imported() -> Any:
    try:
        import ray
        import ray.data
    except ImportError:
        raise UserError("--engine ray needs the extra `ray`: pip install 'unmask[ray]'") from None
    return ray
