"""All models of a server, by name; loaded anew without losing a request."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Sequence
from pathlib import Path

from unmask.errors import UserError
from unmask.server.errors import Refusal
from unmask.server.metrics import Metrics
from unmask.server.served import Served
from unmask.server.settings import Settings

log = logging.getLogger("unmask.server")


class Fleet:
    """The models that are served. A name stands for whichever was loaded last under it."""

    def __init__(self, sources: Sequence[str], settings: Settings, metrics: Metrics) -> None:
        self.sources = named(sources)
        self.settings = settings
        self.metrics = metrics
        self.models: dict[str, Served] = {}
        self.draining = False
        self._lock = asyncio.Lock()
        self._leaving: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Load every model; a UserError where one cannot be."""
        for name, source in self.sources.items():
            self.models[name] = await self._load(name, source)

    async def reload(self) -> dict[str, str]:
        """Load each model anew, and let it take the place of the old, which answers what it has.

        What became of each: `reloaded`, or why the old one stays.
        """
        said = {}
        async with self._lock:
            for name, source in self.sources.items():
                try:
                    new = await self._load(name, source)
                except UserError as error:
                    log.error("reload of %s failed, the old one stays: %s", name, error)
                    self.metrics.of(name).event("reload_failed")
                    said[name] = str(error)
                    continue
                old, self.models[name] = self.models[name], new
                leaving = asyncio.create_task(old.drain())
                self._leaving.add(leaving)
                leaving.add_done_callback(self._leaving.discard)
                self.metrics.of(name).event("reloaded")
                said[name] = "reloaded"
        return said

    async def stop(self) -> None:
        """End all, when what is under way has been answered."""
        self.draining = True
        await asyncio.gather(*(one.drain() for one in self.models.values()), *self._leaving)

    def get(self, name: str | None = None) -> Served:
        """The model of this name, or the first; a Refusal lists those there are."""
        if not name:
            return next(iter(self.models.values()))
        if name not in self.models:
            known = ", ".join(self.models)
            raise Refusal(404, "no_such_model", f"no model {name[:80]!r} here; the models: {known}")
        return self.models[name]

    def admit_any(self) -> None:
        """The soonest Refusal where no model could do anything more in time, whatever is asked."""
        refusals = []
        for served in self.models.values():
            try:
                served.queue.admit_any(self.settings.timeout)
            except Refusal as refusal:
                refusals.append(refusal)
            else:
                return
        if refusals:
            raise min(refusals, key=lambda one: one.retry_after or 0.0)

    @property
    def healthy(self) -> bool:
        """Whether every model has a worker that is ready."""
        return bool(self.models) and all(one.pool.ready for one in self.models.values())

    async def _load(self, name: str, source: str) -> Served:
        served = Served(name, source, self.settings, self.metrics)
        await served.start()
        return served


def named(sources: Sequence[str]) -> dict[str, str]:
    """`NAME=SOURCE`, or the last part of a source's path; a run's folder names its `bundle`."""
    found: dict[str, str] = {}
    for one in sources:
        name, equals, source = one.partition("=")
        if not equals:
            path, source = Path(one), one
            name = path.parent.name if path.name == "bundle" and path.parent.name else path.name
        if not re.fullmatch(r"[\w.-]+", name):
            raise UserError(f"{one}: {name!r} is no name for a model; give NAME={source}")
        if name in found:
            raise UserError(f"two models are called {name}; give NAME=SOURCE for one of them")
        found[name] = source
    if not found:
        raise UserError("give at least one bundle to serve")
    return found
