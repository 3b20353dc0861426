"""`unmask import` and `unmask export`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Format(StrEnum):
    """Layouts that other libraries read."""

    huggingface = "huggingface"
    sentence_transformers = "sentence-transformers"
    tensorflow = "tensorflow"
    onnx = "onnx"
    openvino = "openvino"


def import_(
    source: Annotated[
        str,
        typer.Argument(help="A folder of another library, package://… or hub id."),
    ],
    out: Annotated[Path, typer.Argument(help="The bundle to write.")],
) -> None:
    """Turn SOURCE into a bundle.

    Example: unmask import sentence-transformers/all-MiniLM-L6-v2 minilm
    """
    from unmask import bundle
    from unmask.loading import load

    bundle.save(load(source), out)
    typer.echo(f"wrote {out}")


def export_(
    source: Annotated[str, typer.Argument(metavar="BUNDLE", help="A bundle folder.")],
    out: Annotated[Path, typer.Argument(help="The folder to write.")],
    format: Annotated[Format, typer.Option(help="The layout.")] = Format.huggingface,
    task: Annotated[
        str | None,
        typer.Option(help="Which task's head (default: the only; all for onnx and openvino)"),
    ] = None,
) -> None:
    """Write a BUNDLE in another library's layout.

    Example: unmask export runs/demo/bundle out --format huggingface --task topic
    """
    from unmask.loading import load
    from unmask.runtime.export import FORMATS, export
    from unmask.saving import save_as

    if format.value in FORMATS:
        export(load(source), out, format.value, task)
    else:
        save_as(load(source), out, format.value, task)
    typer.echo(f"wrote {out}")
