"""`unmask compare`: whether one model is better than another, or that is chance."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def compare(
    bundles: Annotated[
        list[Path],
        typer.Argument(metavar="BUNDLE…", help="A bundle, or one for each of its seeds."),
    ],
    than: Annotated[
        list[Path], typer.Option(help="What it is compared with; once for each of its seeds.")
    ],
    recipe: Annotated[Path | None, typer.Option(help="Score its rows (default: own)")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say by how much BUNDLE is better than another on the same rows, and if that may be chance.

    Example: unmask compare runs/new/bundle --than runs/old/bundle
    """
    from unmask.cli.output import difference, print_json, print_table
    from unmask.evaluation.comparison import comparison
    from unmask.evaluation.scores import figure

    found = comparison(bundles, than, recipe)
    if json:
        print_json(found)
        return
    rows: list[list[object]] = []
    for task in found["tasks"]:
        place = [task["task"], task["split"], task["metric"], task["rows"]]
        if task["difference"] is None:
            rows.append([*place, f"– ({task['reason']})", "", "", ""])
            continue
        rows.append([*place, figure(task["theirs"]), figure(task["ours"]), *difference(task)])
    columns = ["task", "split", "metric", "rows", "than", "this", "difference (95 %)", "p"]
    print_table("", columns, rows)
