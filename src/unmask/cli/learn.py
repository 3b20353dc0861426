"""`unmask init`, `unmask train`, `unmask eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def init(
    data: Annotated[Path, typer.Argument(help="CSV, TSV, JSONL, … or a folder of them.")],
    out: Annotated[Path, typer.Option(help="The recipe to write.")] = Path("recipe.yaml"),
    encoder: Annotated[str | None, typer.Option(help="Encoder to start from.")] = None,
    text: Annotated[list[str] | None, typer.Option(help="Input column; twice for a pair.")] = None,
    label: Annotated[str | None, typer.Option(help="Label column.")] = None,
) -> None:
    """Look at the columns of DATA and write a recipe for it, with a schema for editors.

    Example: unmask init reviews.csv
    """
    from unmask.cli.initial import initial_recipe
    from unmask.errors import UserError
    from unmask.files import write_json, write_text
    from unmask.recipe import json_schema
    from unmask.tasks import OPTIONS

    if out.exists():
        raise UserError(f"{out} exists: choose another name with --out, or remove it")
    recipe, said = initial_recipe(data, encoder, tuple(text or ()), label)
    schema = out.with_name("recipe.schema.json")
    write_json(schema, json_schema(OPTIONS))
    write_text(out, f"# yaml-language-server: $schema={schema.name}\n{recipe}")
    typer.echo(f"{said}\nwrote {out}; next: unmask train {out} --dry-run")


def train(
    recipe: Annotated[Path, typer.Argument(help="The recipe, a YAML file.")],
    changes: Annotated[list[str] | None, typer.Argument(help="key=value, any key of it.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder (default: runs/RECIPE)")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a run that is there.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run that was broken off.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="With --resume: though the recipe or rows differ.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the data and the cost.")] = False,
    json: Json = False,
) -> None:
    """Train a RECIPE into a run folder with a bundle and its scores.

    Example: unmask train recipe.yaml train.epochs=5 train.seed=1 --out runs/seed-1
    """
    from unmask.cli.output import print_json, print_scores

    if dry_run:
        from unmask.cli.rehearsal import print_rehearsal
        from unmask.training.rehearse import rehearse

        rehearsal = rehearse(recipe, changes or ())
        print_json(rehearsal) if json else print_rehearsal(rehearsal)
        return
    from unmask.training.processes import first_process
    from unmask.training.run import train as run

    folder = out or Path("runs") / recipe.stem
    trained = run(recipe, folder, changes or (), overwrite, resume, force)
    if not first_process():
        return
    records = [score.record() for score in trained.scores]
    if json:
        print_json({"bundle": str(trained.bundle), "seconds": trained.seconds, "scores": records})
    else:
        print_scores(records)
        typer.echo(f"trained in {trained.seconds:.0f} s; the bundle is {trained.bundle}")


def evaluate(
    bundles: Annotated[
        list[Path],
        typer.Argument(metavar="BUNDLE…", help="A bundle, or one for each of its seeds."),
    ],
    recipe: Annotated[Path | None, typer.Option(help="Score its rows (default: own)")] = None,
    errors: Annotated[
        int | None,
        typer.Option(min=0, help="How many worst errors a task to list (default: 5; page: 100)"),
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page for the browser: .html")] = None,
    json: Json = False,
) -> None:
    """Score a BUNDLE on the held-out rows of its own recipe, or of another.

    Several are taken as one recipe trained with several seeds: scores are means, with the standard
    deviation over seeds.

    Example: unmask eval runs/demo/bundle --html scores.html
    """
    from unmask.cli.output import (
        print_cube,
        print_doubt,
        print_json,
        print_scores,
        print_worst,
    )
    from unmask.cli.tables import check_output
    from unmask.evaluation.evaluate import evaluate as run

    check_output(html, (".html",))
    count = errors if errors is not None else 100 if html else 5
    found = run(bundles, recipe, count)
    if html:
        from unmask.evaluation.page import render
        from unmask.files import write_text

        write_text(html, render(found))
        typer.echo(f"wrote {html}", err=True)
    if json:
        print_json(found)
    else:
        print_scores(found["scores"])
        print_cube(found["cube"])
        print_doubt(found["doubt"])
        print_worst(found["worst"], count if errors is not None else 5)
