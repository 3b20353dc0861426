"""`unmask shrink`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def shrink(
    bundle: Annotated[str, typer.Argument(help="A bundle, a Hugging Face folder or a hub id.")],
    out: Annotated[Path, typer.Argument(help="The bundle to write; it must not be there.")],
    to: Annotated[
        list[str] | None,
        typer.Option(
            help="A step: vocabulary, layers=N, heads=N, units=N (or N%), student=N or NxWIDTH, "
            "recover or recover=int8, bf16, int8, exits or exits=SHARE; repeated, a chain in this "
            "order"
        ),
    ] = None,
    budget: Annotated[
        str | None, typer.Option(help='Search a chain for: "20 MB, 5 ms, -0.5 points"')
    ] = None,
    texts: Annotated[
        list[Path] | None,
        typer.Option(help="Texts without labels (a column `text`); may be repeated"),
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="Its rows are learnt from and scored (default: own)")
    ] = None,
    teacher: Annotated[
        list[str] | None,
        typer.Option(help="A bundle that `recover` learns from (default: BUNDLE); may be repeated"),
    ] = None,
    set: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE for `recover`, as train.steps=200")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make a smaller bundle OUT of BUNDLE, and say what each step took and cost.

    Example: unmask shrink runs/demo/bundle small --to vocabulary --to layers=50% --to recover
    """
    from unmask.cli.output import print_json, print_table
    from unmask.errors import UserError
    from unmask.shrink.budget import search
    from unmask.shrink.card import COLUMNS, early, table
    from unmask.shrink.chain import shrink as run

    if (budget is None) == (not to):
        raise UserError("say what to do: steps with --to, or a --budget to search by")
    rest = (recipe, texts or (), teacher or (), set or ())
    record = search(bundle, out, budget, *rest) if budget else run(bundle, out, to or (), *rest)
    if json:
        print_json(record)
        return
    print_table("", COLUMNS, table(record["figures"]))
    for line in filter(None, early(record["figures"][-1])):
        typer.echo(line)
    typer.echo(f"wrote {out}")
