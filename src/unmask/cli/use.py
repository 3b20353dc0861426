"""`unmask predict`, `unmask fill`, `unmask embed`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Bundle = Annotated[str, typer.Argument(help="A bundle, a Hugging Face folder or a hub id.")]
Texts = Annotated[list[str] | None, typer.Argument(help="Texts.")]
Input = Annotated[Path | None, typer.Option("--input", help="CSV, JSONL, Parquet or text file.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def predict(
    bundle: Bundle,
    texts: Texts = None,
    task: Annotated[
        list[str] | None, typer.Option(help="Which task (default: the only one); may be repeated")
    ] = None,
    input: Input = None,
    output: Annotated[Path | None, typer.Option(help="Where to write: .csv or .jsonl")] = None,
    json: Json = False,
) -> None:
    """Answer a task, or several at once, for TEXTS or for the rows of a file.

    Example: unmask predict runs/demo/bundle --task topic "Who won the match?"
    """
    from unmask import progress
    from unmask.cli.output import print_json, print_table, shorten
    from unmask.cli.tables import beside, check_output, only_task, open_model, read_rows, write_rows

    check_output(output, (".csv", ".jsonl"))
    model = open_model(bundle)
    tasks = [model.task(name) for name in dict.fromkeys(task or [only_task(model)])]
    rows = read_rows(texts, input, [one.options.inputs for one in tasks])
    with progress.bar("predict", len(rows) * len(tasks)) as advance:
        answers = model.predict([one.name for one in tasks], rows, progress=advance)
    records = [beside(row, own) for row, own in zip(rows, answers, strict=True)]
    cut = sum(any(answer.dropped for answer in own.values()) for own in answers)
    if cut:
        typer.echo(
            f"{cut} of {len(rows)} texts were cut to {model.text.max_length} tokens", err=True
        )
    if output:
        write_rows(records, output)
    if json:
        print_json(records)
    elif not output:
        several = len(tasks) > 1
        print_table(
            "",
            [*(["task"] if several else []), "answer", "probability", "text"],
            [
                [
                    *([one.name] if several else []),
                    answer.short,
                    answer.columns().get("probability", ""),
                    shorten(one.shown(row), 80),
                ]
                for row, own in zip(rows, answers, strict=True)
                for one, answer in zip(tasks, own.values(), strict=True)
            ],
        )


def fill(
    bundle: Bundle,
    text: Annotated[str, typer.Argument(help="A text with one or more [MASK].")],
    top: Annotated[int, typer.Option(min=1, help="Candidates for each [MASK].")] = 5,
    json: Json = False,
) -> None:
    """Guess the hidden words of a TEXT.

    Example: unmask fill runs/demo/bundle "What is your favorite [MASK]?"
    """
    from unmask.cli.output import print_json, print_table
    from unmask.cli.tables import open_model

    answer = open_model(bundle).fill(text, top)
    if json:
        print_json(answer.columns())
        return
    typer.echo(answer.filled)
    for number, guess in enumerate(answer.guesses, 1):
        print_table(f"\n[MASK] {number}", ["candidate", "probability"], guess.candidates)


def embed(
    bundle: Bundle,
    texts: Texts = None,
    input: Input = None,
    output: Annotated[Path | None, typer.Option(help="Where to write: .npy or .jsonl")] = None,
    column: Annotated[str, typer.Option(help="The text column of the input file.")] = "text",
) -> None:
    """Turn each of TEXTS, or each row of a file, into one vector.

    Example: unmask embed sentence-transformers/all-MiniLM-L6-v2 --input a.csv --output a.npy
    """
    from unmask import progress
    from unmask.cli.output import print_json
    from unmask.cli.tables import check_output, open_model, read_rows, texts_of, write_vectors

    check_output(output, (".npy", ".jsonl"))
    model = open_model(bundle)
    rows = read_rows(texts, input, [(column,)])
    with progress.bar("embed", len(rows)) as advance:
        vectors = model.encode(texts_of(rows, column), progress=advance)
    if output:
        write_vectors(rows, vectors, output)
    else:
        print_json([[round(x, 6) for x in vector] for vector in vectors.tolist()])
