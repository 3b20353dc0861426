"""`unmask corpus build`."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

corpus = typer.Typer(help="Corpora: raw texts to tokens that are ready to learn from.")


class Engine(StrEnum):
    """What runs the stages."""

    processes = "processes"
    ray = "ray"


@corpus.callback()
def _group() -> None:
    """Keep `build` a name of its own, as long as it is the only one."""


@corpus.command()
def build(
    recipe: Annotated[Path, typer.Argument(help="Sources, tokenizer, what to drop: a YAML file.")],
    changes: Annotated[list[str] | None, typer.Argument(help="key=value, any key of it.")] = None,
    out: Annotated[Path, typer.Option(help="The folder to write.")] = Path("corpus"),
    memory: Annotated[str, typer.Option(help="For all processes together.")] = "2GB",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes (default: as many as processors)")
    ] = None,
    engine: Annotated[
        Engine, typer.Option(help="Processes of this machine, or Ray.")
    ] = Engine.processes,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a corpus that is there.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Build the corpus of a RECIPE; the same command goes on with one that was broken off.

    Example: unmask corpus build corpus.yaml --out corpora/films --memory 4GB
    """
    from unmask.cli.output import print_json
    from unmask.corpus.build import PAGE
    from unmask.corpus.build import build as run

    found = run(recipe, out, changes or (), size(memory), workers, engine.value, overwrite)
    if json:
        print_json(found)
        return
    _print(found)
    typer.echo(f"wrote {out}; its page is {out / PAGE}")


def _print(found: dict[str, Any]) -> None:
    from unmask.cli.output import print_table

    splits = [split for split in ("train", "valid") if split in found["total"]]
    reasons = list(found["total"]["dropped"])
    columns = ["part", "read", *reasons]
    for split in splits:
        columns += [f"{split} documents", f"{split} words", f"{split} tokens"]
    rows = []
    for name, group in [*found["groups"].items(), ("all", found["total"])]:
        row = [name, group["read"], *(group["dropped"].get(reason, 0) for reason in reasons)]
        for split in splits:
            row += [group[split][key] for key in ("documents", "words", "tokens")]
        rows.append(row)
    print_table("", columns, rows if len(rows) > 2 else rows[-1:])


def size(text: str) -> int:
    """Bytes of `512MB`, `2GB` or `1.5GiB`; units are powers of 1024."""
    from unmask.errors import UserError

    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt])i?b?", text.strip().lower())
    if not found:
        raise UserError(f"{text!r} is no size of memory: write 512MB, or 4GB")
    return int(float(found[1]) * 1024 ** ("kmgt".index(found[2]) + 1))
