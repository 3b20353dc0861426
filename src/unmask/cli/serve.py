"""`unmask serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def serve(
    bundles: Annotated[
        list[str], typer.Argument(help="Bundles, folders or hub ids; NAME=BUNDLE gives a name.")
    ],
    host: Annotated[str, typer.Option(help="Where to listen; others than loopback need keys")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free")] = 8000,
    api_key_file: Annotated[
        Path | None,
        typer.Option(help="A key a line, and its scopes: predict, metrics, admin (predict)"),
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificates, PEM")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key, PEM")] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes of each model (one a processor, at most 2)"),
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=0.1, help="Seconds in which a request is answered or refused")
    ] = 30.0,
    queue_tokens: Annotated[
        int, typer.Option(min=1, help="Tokens that may wait, of each model; beyond it 429")
    ] = 65_536,
    batch_tokens: Annotated[int, typer.Option(min=1, help="Most tokens of a batch")] = 8192,
    batch_seconds: Annotated[
        float,
        typer.Option(min=0.001, help="Seconds that a batch should take at most, unless much waits"),
    ] = 0.05,
    cache_mb: Annotated[int, typer.Option(min=0, help="Memory for answers, of each model")] = 64,
    read_seconds: Annotated[
        float, typer.Option(min=0.1, help="In which headers, and then a body, must have come")
    ] = 20.0,
    max_items: Annotated[int, typer.Option(min=1, help="Texts in one request")] = 1024,
    max_body_mb: Annotated[int, typer.Option(min=1, help="Size of one request")] = 4,
) -> None:
    """Serve BUNDLES over HTTP: every task of each, with a page at / to try them.

    Example: unmask serve runs/demo/bundle --port 8000
    """
    from unmask.errors import UserError
    from unmask.machine.threads import available_cpus

    try:
        from unmask.server.run import serve as run
        from unmask.server.settings import Settings
    except ModuleNotFoundError as error:
        raise UserError(
            f"serving needs the extra `serve` ({error.name} is missing): "
            "pip install 'unmask[serve]'"
        ) from None

    cpus = available_cpus()
    each = workers or max(1, min(2, cpus // len(bundles)))
    settings = Settings(
        host=host,
        port=port,
        workers=each,
        threads=max(1, cpus // (each * len(bundles))),
        timeout=timeout,
        queue_tokens=queue_tokens,
        batch_tokens=batch_tokens,
        batch_seconds=batch_seconds,
        cache_bytes=cache_mb << 20,
        body_bytes=max_body_mb << 20,
        items=max_items,
        body_seconds=read_seconds,
    )
    run(bundles, settings, api_key_file, tls_cert, tls_key)
