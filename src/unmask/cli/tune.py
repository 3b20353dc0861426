"""`unmask tune`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def tune(
    bundle: Annotated[Path, typer.Argument(help="A bundle folder.")],
    texts: Annotated[
        Path | None,
        typer.Option(help="Texts to try forms on: CSV, JSONL, Parquet, or a text a line."),
    ] = None,
    column: Annotated[str, typer.Option(help="The text column of that file.")] = "text",
    to: Annotated[
        list[str] | None,
        typer.Option(
            help="Only such forms: int8, openvino, onnxruntime-fp32 …; may be repeated "
            "(default: all in fp32 and bf16)"
        ),
    ] = None,
    tolerance: Annotated[
        str | None,
        typer.Option(help="KEY=NUMBER,… of cosine, min_cosine, points, ece, alone"),
    ] = None,
    rows: Annotated[int, typer.Option(min=8, help="How many texts and rows at most.")] = 500,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Find the fastest faithful form of a BUNDLE on this machine, and keep it in the bundle.

    Example: unmask tune runs/demo/bundle --texts mine.csv --to int8 --tolerance points=0.3
    """
    from unmask.cli.output import print_json, print_table
    from unmask.cli.tables import read_rows, texts_of
    from unmask.machine.threads import use_available_cpus
    from unmask.tuning.contract import Tolerance
    from unmask.tuning.tune import tune as find

    use_available_cpus()
    allowed = Tolerance.read(tolerance)
    given = None
    if texts is not None:
        given = texts_of(read_rows(None, texts, [(column,)]), column)
    found = find(bundle, given, to or (), allowed, rows)
    if json:
        print_json(found)
        return
    print_table(
        "",
        ["form", "texts/s", "× torch", "mean cosine", "least cosine", "alone", "refused"],
        [
            [
                one["form"],
                f"{one['texts_per_second']:.1f}" if one["texts_per_second"] else "–",
                f"{one['ratio']:.2f}" if one["ratio"] else "–",
                *_cosines(one["contract"]),
                "; ".join(one["refused"]),
            ]
            for one in found["tried"]
        ],
    )
    kept = next(one for one in found["tried"] if one["form"] == found["form"])
    for name, task in kept["contract"]["tasks"].items():
        if task.get("change") is not None:
            change = f"{task['fp32']:.4f} → {task['form']:.4f} on {task['rows']} rows"
            typer.echo(f"{name}: {task['metric']} {change}")
    typer.echo(f"kept {found['form']} in {bundle}")


def _cosines(contract: dict[str, dict[str, float]] | None) -> list[str]:
    if contract is None:
        return ["–"] * 3
    values = (contract["cosine"]["mean"], contract["cosine"]["min"], contract["alone"]["cosine"])
    return [f"{value:.6f}" for value in values]
