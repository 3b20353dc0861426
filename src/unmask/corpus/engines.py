"""Who does the work: processes of this machine, or Ray. Both run the very same functions."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from unmask.errors import UserError

Stage = Callable[[Path, int], None]  # does one unit of the work in a folder
Engine = Literal["processes", "ray"]


def run(engine: Engine, workers: int, stage: Stage, folder: Path, units: int) -> Generator[None]:
    """Do all units of a stage, in any order; something comes for each that is done."""
    if engine == "ray":
        return _ray(workers, stage, folder, units)
    if workers == 1 or units == 1:
        return _here(stage, folder, units)
    return _processes(min(workers, units), stage, folder, units)


def _here(stage: Stage, folder: Path, units: int) -> Generator[None]:
    for unit in range(units):
        stage(folder, unit)
        yield


def _processes(workers: int, stage: Stage, folder: Path, units: int) -> Generator[None]:
    known = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")  # a fork would share locks of other threads
    rest = iter(range(units))
    with ProcessPoolExecutor(workers, context, initializer=_begin) as pool:
        try:
            under_way = {pool.submit(stage, folder, unit) for unit in islice(rest, 2 * workers)}
            while under_way:
                done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                for one in done:
                    yield one.result()
                under_way |= {pool.submit(stage, folder, u) for u in islice(rest, len(done))}
        except BrokenProcessPool:
            raise UserError(
                f"a process that was building in {folder} was killed, perhaps for want of memory; "
                "nothing that was done is lost: give the same command again, with fewer --workers"
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


def _ray(workers: int, stage: Stage, folder: Path, units: int) -> Generator[None]:
    ray = check_ray()
    began = not ray.is_initialized()
    if began:
        ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False

    def work(row: dict[str, Any]) -> dict[str, Any]:
        stage(folder, int(row["unit"]))
        return row

    try:
        rows = ray.data.from_items(
            [{"unit": unit} for unit in range(units)], override_num_blocks=min(units, 1024)
        )
        for _ in rows.map(work).iter_rows():
            yield None
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, UserError):
            cause = getattr(cause, "cause", None) or cause.__cause__
        if cause is not None:
            raise UserError(str(cause)) from None
        raise
    finally:
        if began:
            ray.shutdown()


def check_ray() -> Any:
    """Ray with its data library; a UserError names the extra where it is missing."""
    try:
        import ray
        import ray.data
    except ModuleNotFoundError:
        raise UserError("--engine ray needs the extra `ray`: pip install 'unmask[ray]'") from None
    return ray
