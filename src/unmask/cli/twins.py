"""`unmask twins`: what being trained together costs each task."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer


def twins(
    recipe: Annotated[Path, typer.Argument(help="The recipe, of two tasks at least.")],
    changes: Annotated[list[str] | None, typer.Argument(help="key=value, any key of it.")] = None,
    seeds: Annotated[int, typer.Option(help="How many seeds, from the recipe's own on.")] = 3,
    out: Annotated[Path | None, typer.Option(help="Folder (default: runs/RECIPE-twins)")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Train the tasks of a RECIPE together and each alone, and report what togetherness costs.

    Broken off and called again, it goes on where it was. FOLDER/twins.html is the report to read.

    Example: unmask twins recipe.yaml --seeds 3 --out runs/twins
    """
    from unmask.cli.output import print_json
    from unmask.training.twins import twins as run

    folder = out or Path("runs") / f"{recipe.stem}-twins"
    found = run(recipe, folder, changes or (), seeds)
    if found is None:
        return
    if json:
        print_json(found)
    else:
        _print(found)
        typer.echo(f"wrote {folder / 'twins.json'} and {folder / 'twins.html'}")


def _print(found: Mapping[str, Any]) -> None:
    """Each task alone and together, and what the models take."""
    from unmask.cli.output import difference, print_table
    from unmask.evaluation.scores import figure

    rows: list[list[object]] = []
    for task in found["tasks"]:
        place = [task["task"], task["split"], task["metric"]]
        if task["difference"] is None:
            rows.append([*place, f"– ({task['reason']})", "", "", "", ""])
            continue
        drop = "within noise"
        if task["difference"] >= 0:
            drop = "none"
        elif task["noise"] is None:
            drop = "of one seed"
        elif task["exceeds_noise"]:
            drop = "more than noise"
        sides = figure(task["alone"]), figure(task["together"])
        rows.append([*place, *sides, *difference(task), drop])
    columns = ["task", "split", "metric", "alone", "together", "difference (95 %)", "p", "drop"]
    print_table("", columns, rows)
    weights, seconds = found["weights"], found["seconds"]
    print(
        f"weights: {weights['together'] / 1e6:.1f} million together, {weights['alone'] / 1e6:.1f} "
        f"million in {len(found['tasks'])} models\n"
        f"training, a seed: {seconds['together']:.0f} s together, {seconds['alone']:.0f} s alone"
    )
    for note in found["notes"]:
        print(note)
