"""From settings to a server that runs until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import uvicorn

from unmask.errors import UserError
from unmask.server.app import make_app
from unmask.server.fleet import Fleet
from unmask.server.keys import Keys, is_loopback, read_keys
from unmask.server.metrics import Metrics
from unmask.server.protocol import protocol
from unmask.server.settings import Settings

log = logging.getLogger("unmask.server")


class Server(uvicorn.Server):
    """uvicorn, which drains at SIGTERM and Ctrl-C and then ends with code 0; SIGHUP reloads."""

    def __init__(self, config: uvicorn.Config, fleet: Fleet) -> None:
        super().__init__(config)
        self.fleet = fleet
        self._reloading: set[asyncio.Task[dict[str, str]]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say where."""
        await super().startup(sockets)
        scheme = "https" if self.config.is_ssl else "http"
        for one in sockets or ():
            host, port = one.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            log.info("serving %s on %s://%s:%d", ", ".join(self.fleet.models), scheme, shown, port)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Hear signals on the event loop, where what they ask for can be done."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        yield

    def _stop(self) -> None:
        self.fleet.draining = True
        self.force_exit = self.should_exit  # the second time without waiting
        self.should_exit = True

    def _reload(self) -> None:
        if len(self._reloading) > 1:
            return  # one is under way, and one behind it will see what changed meanwhile
        task = asyncio.create_task(self.fleet.reload())
        self._reloading.add(task)
        task.add_done_callback(self._reloading.discard)


def serve(
    sources: Sequence[str],
    settings: Settings,
    key_file: Path | None = None,
    certificate: Path | None = None,
    certificate_key: Path | None = None,
) -> None:
    """Serve models until SIGTERM or Ctrl-C; what is under way then is answered first."""
    keys = read_keys(key_file) if key_file else Keys({})
    if not keys and not is_loopback(settings.host):
        raise UserError(
            f"--host {settings.host} can be reached from other machines: give --api-key-file FILE "
            "with a key a line, or serve on 127.0.0.1"
        )
    if (certificate is None) != (certificate_key is None):
        raise UserError("TLS needs both --tls-cert and --tls-key")
    for file in filter(None, (certificate, certificate_key)):
        if not file.is_file():
            raise UserError(f"there is no file {file}")
    if not logging.getLogger("unmask.server").handlers:
        logging.getLogger("unmask.server").setLevel(logging.INFO)
    try:
        asyncio.run(_serve(sources, settings, keys, certificate, certificate_key))
    except OSError as error:
        raise UserError(
            f"cannot listen on {settings.host}:{settings.port} ({error.strerror}); "
            "choose another with --port"
        ) from None


async def _serve(
    sources: Sequence[str],
    settings: Settings,
    keys: Keys,
    certificate: Path | None,
    certificate_key: Path | None,
) -> None:
    fleet = Fleet(sources, settings, Metrics())
    config = uvicorn.Config(
        make_app(fleet, settings, keys, tls=certificate is not None),
        host=settings.host,
        port=settings.port,
        http=protocol(settings.header_bytes, settings.body_seconds),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=int(settings.timeout) + 5,
        ssl_certfile=certificate,
        ssl_keyfile=certificate_key,
    )
    listening = config.bind_socket()
    try:
        await fleet.start()
        await Server(config, fleet).serve(sockets=[listening])
    finally:
        listening.close()
        if not fleet.draining:
            await fleet.stop()
