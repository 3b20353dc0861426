"""`unmask predict`, `unmask write`, `unmask fill`, `unmask embed`, `unmask mine`."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unmask.cli.corpus import Engine

if TYPE_CHECKING:
    from unmask.tasks import TextAnswer

Bundle = Annotated[str, typer.Argument(help="A bundle, a Hugging Face folder or a hub id.")]
Texts = Annotated[
    list[str] | None, typer.Argument(help="Texts, or files with pictures or recordings.")
]
Input = Annotated[Path | None, typer.Option("--input", help="CSV, JSONL, Parquet or text file.")]
Options = Annotated[
    list[str] | None,
    typer.Option("--option", help="KEY=VALUE of how a task answers, as beams=4; may be repeated"),
]
Engines = Annotated[Engine, typer.Option(help="From file to file: this machine, or Ray.")]
Workers = Annotated[int, typer.Option(min=1, help="From file to file: processes.")]
Part = Annotated[int, typer.Option(min=1, help="From file to file: rows that a kill may lose.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def predict(
    bundle: Bundle,
    texts: Texts = None,
    task: Annotated[
        list[str] | None, typer.Option(help="Which task (default: the only one); may be repeated")
    ] = None,
    input: Input = None,
    output: Annotated[
        Path | None, typer.Option(help="Where to write: .csv, .jsonl or .parquet")
    ] = None,
    option: Options = None,
    engine: Engines = Engine.processes,
    workers: Workers = 1,
    part: Part = 4096,
    json: Json = False,
) -> None:
    """Answer a task, or several at once, for TEXTS or for the rows of a file.

    From file to file it may be of any size: the same command goes on with one that was killed.

    With --option coverage=0.9 answers are sets, or intervals, that hold the truth so often; with
    --option risk=0.05 those are marked that are not sure enough for so few errors.

    Example: unmask predict runs/demo/bundle --task topic "Who won the match?"

    Of a picture: unmask predict runs/photos/bundle --task label cat.jpg dog.png
    """
    from unmask import progress
    from unmask.cli.output import print_json, print_table, shorten
    from unmask.cli.tables import (
        beside,
        bulk,
        check_output,
        only_task,
        open_model,
        read_options,
        read_rows,
        write_rows,
    )

    check_output(output, (".csv", ".jsonl", ".parquet"))
    options = read_options(option)
    model = open_model(bundle)
    tasks = [model.task(name) for name in dict.fromkeys(task or [only_task(model)])]
    if input and output and not texts:
        columns = dict.fromkeys(column for one in tasks for column in one.options.inputs)
        asked = {"tasks": [one.name for one in tasks], "columns": [*columns], "options": options}
        found = bulk("predict", bundle, model, input, output, asked, engine, workers, part)
        _say_cut(found.cut, found.rows)
        if json:
            print_json({"output": str(output), **vars(found)})
        return
    rows = read_rows(texts, input, [one.options.inputs for one in tasks])
    with progress.bar("predict", len(rows) * len(tasks)) as advance:
        answers = model.predict([one.name for one in tasks], rows, progress=advance, **options)
    records = [beside(row, own) for row, own in zip(rows, answers, strict=True)]
    cut = sum(any(answer.dropped for answer in own.values()) for own in answers)
    _say_cut(cut, len(rows))
    if output:
        write_rows(records, output)
    if json:
        print_json(records)
    elif not output:
        given = [(one, row, own[one.name]) for row, own in zip(rows, answers, strict=True)
                 for one in tasks]  # fmt: skip
        cells: dict[str, list[object]] = {
            "task": [one.name for one, _, _ in given] if len(tasks) > 1 else [],
            "answer": [answer.short for _, _, answer in given],
            "probability": [answer.columns().get("probability", "") for _, _, answer in given],
            "promised": [answer.promise.short if answer.promise else "" for _, _, answer in given],
            "known": [answer.known.short if answer.known else "" for _, _, answer in given],
            "text": [shorten(one.shown(row), 80) for one, row, _ in given],
            "note": ["; ".join(answer.marks) for _, _, answer in given],
        }
        shown = {name: own for name, own in cells.items() if any(own)}
        print_table("", [*shown], list(zip(*shown.values(), strict=True)))
    for one in tasks if answers else ():
        if promise := answers[0][one.name].promise:
            typer.echo(f"task {one.name}: {promise.says}", err=True)


def _say_cut(cut: int, rows: int) -> None:
    """Say how many rows were too long."""
    if cut:
        typer.echo(f"{cut} of {rows} texts were too long, and were cut", err=True)


def write(
    bundle: Bundle,
    prompt: Annotated[list[str], typer.Argument(help="The source, or a text to go on with.")],
    task: Annotated[str | None, typer.Option(help="Which task (default: the only one)")] = None,
    option: Options = None,
) -> None:
    """Write a text for a PROMPT by a task of kind `generate`, and show it as it is written.

    Example: unmask write runs/multi30k/bundle "A man rides a bicycle."
    """
    from unmask.cli.tables import only_task, open_model, read_options, read_rows

    options = read_options(option)
    model = open_model(bundle)
    own = model.task(task or only_task(model))
    for row in read_rows(prompt, None, [own.options.inputs]):
        answer = _shown(model.write(own.name, row, **options))
        typer.echo()
        for said in answer.marks:
            typer.echo(said, err=True)


def _shown(parts: Generator[str, None, TextAnswer]) -> TextAnswer:
    """Print the parts as they come; the answer that they make."""
    while True:
        try:
            typer.echo(next(parts), nl=False)
        except StopIteration as end:
            answer: TextAnswer = end.value
            return answer


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
    output: Annotated[
        Path | None, typer.Option(help="Where to write: .npy, .jsonl or .parquet")
    ] = None,
    column: Annotated[
        str | None, typer.Option(help="The column of the input file (default: the modality)")
    ] = None,
    modality: Annotated[str, typer.Option(help="What it holds: text, image or audio.")] = "text",
    width: Annotated[
        int | None, typer.Option(min=1, help="Only a vector's first numbers (default: all)")
    ] = None,
    engine: Engines = Engine.processes,
    workers: Workers = 1,
    part: Part = 4096,
) -> None:
    """Turn each of TEXTS, or each row of a file, into one vector.

    From file to file it may be of any size: the same command goes on with one that was killed.

    Example: unmask embed sentence-transformers/all-MiniLM-L6-v2 --input a.csv --output a.npy

    Of pictures: unmask embed runs/photos/bundle --modality image cat.jpg dog.png
    """
    from unmask import progress
    from unmask.cli.output import print_json
    from unmask.cli.tables import (
        beside,
        bulk,
        check_output,
        open_model,
        read_rows,
        texts_of,
        write_vectors,
    )
    from unmask.errors import UserError

    check_output(output, (".npy", ".jsonl", ".parquet"))
    model = open_model(bundle)
    if modality not in ("text", *model.text.beside):
        known = ", ".join(("text", *model.text.beside))
        raise UserError(f"--modality {modality}: this model reads {known}")
    column = column or modality
    if input and output and not texts:
        model.encode([], width=width)  # which refuses a width that there is not
        asked = {"columns": [column], "width": width, "modality": modality}
        found = bulk("embed", bundle, model, input, output, asked, engine, workers, part)
        _say_cut(found.cut, found.rows)
        return
    rows = read_rows(texts, input, [(column,)])
    cells = texts_of(rows, column) if modality == "text" else [{modality: r[column]} for r in rows]
    with progress.bar("embed", len(rows)) as advance:
        vectors = model.encode(cells, advance, width)
    if output:
        write_vectors([beside(row, {}) for row in rows], vectors, output)
    else:
        print_json([[round(x, 6) for x in vector] for vector in vectors.tolist()])


def mine(
    bundle: Bundle,
    input: Annotated[Path, typer.Argument(help="CSV, JSONL or Parquet: queries and documents.")],
    query: Annotated[str, typer.Option(help="The column of the queries.")],
    document: Annotated[str, typer.Option(help="The column of the documents that answer them.")],
    output: Annotated[Path, typer.Option(help="Where to write: .jsonl or .parquet")],
    count: Annotated[int, typer.Option(min=1, help="Negatives for each row.")] = 5,
    skip: Annotated[int, typer.Option(min=0, help="Leave out so many of the nearest.")] = 3,
) -> None:
    """Find negatives for the rows of INPUT: near documents, by the BUNDLE's vectors, of others.

    Example: unmask mine bundle a.csv --query question --document answer --output mined.jsonl
    """
    from unmask import progress
    from unmask.cli.tables import check_output, open_model, read_rows, texts_of, write_rows
    from unmask.errors import UserError
    from unmask.training.mine import NEGATIVES, mine

    check_output(output, (".jsonl", ".parquet"))
    model = open_model(bundle)
    rows = read_rows(None, input, [(query, document)])
    if rows and NEGATIVES in rows[0]:
        raise UserError(f"{input} has a column {NEGATIVES!r} already: rename or remove it")
    pairs = list(zip(texts_of(rows, query), texts_of(rows, document), strict=True))
    with progress.bar(
        "mine", sum(len(set(texts)) for texts in zip(*pairs, strict=True))
    ) as advance:
        found = mine(model, pairs, count, skip, advance)
    write_rows([{**row, NEGATIVES: own} for row, own in zip(rows, found, strict=True)], output)
    typer.echo(f"wrote {output}: {sum(map(len, found))} negatives for {len(rows)} rows")
