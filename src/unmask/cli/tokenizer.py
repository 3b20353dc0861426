"""`unmask tokenizer train` and `unmask tokenizer score`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from unmask.inputs.text import TextInput
    from unmask.inputs.vocabulary import Spoken

app = typer.Typer(
    help="Learn a vocabulary from texts, and see how well one fits a language.",
    rich_markup_mode=None,
)

Sources = Annotated[
    list[str], typer.Argument(help="Files, globs, package://…/file or hub://owner/name.")
]
Column = Annotated[
    list[str] | None, typer.Option(help="Text column (default: text); may be repeated")
]
Language = Annotated[str, typer.Option(help="Column of the language; a path may hold {language}.")]
Field = Annotated[str | None, typer.Option(help="In JSON or YAML, the key that holds the rows.")]
Split = Annotated[str | None, typer.Option(help="The split of a hub dataset.")]
Name = Annotated[str | None, typer.Option(help="The configuration of a hub dataset.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Only the first rows.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def train(
    sources: Sources,
    out: Annotated[Path, typer.Option(help="The folder to write.")] = Path("tokenizer"),
    kind: Annotated[str, typer.Option(help="wordpiece, bpe or unigram.")] = "wordpiece",
    vocab_size: Annotated[int, typer.Option(help="Pieces, special tokens among them.")] = 8192,
    lowercase: Annotated[
        bool | None,
        typer.Option("--lowercase/--cased", help="Default: lowercase for wordpiece, else cased."),
    ] = None,
    min_frequency: Annotated[int, typer.Option(help="Times that a piece must occur.")] = 2,
    temperature: Annotated[
        float, typer.Option(help="1: texts as they come; large: all languages weigh the same.")
    ] = 1.0,
    column: Column = None,
    language: Language = "language",
    field: Field = None,
    split: Split = None,
    name: Name = None,
    limit: Limit = None,
    json: Json = False,
) -> None:
    """Learn a vocabulary from SOURCES; a recipe takes it as `encoder: {tokenizer: FOLDER}`.

    Example: unmask tokenizer train "texts/{language}.txt" --kind unigram --temperature 3
    """
    from pydantic import ValidationError

    from unmask import files
    from unmask.cli.output import print_json
    from unmask.errors import UserError
    from unmask.inputs.text import TextInput
    from unmask.inputs.vocabulary import balanced, learn
    from unmask.recipe import NewTokenizer

    given: dict[str, Any] = {
        "kind": kind,
        "vocab_size": vocab_size,
        "lowercase": lowercase,
        "min_frequency": min_frequency,
        "temperature": temperature,
    }
    try:
        options = NewTokenizer(**given)
    except ValidationError as error:
        first = error.errors()[0]
        option = str(first["loc"][0]).replace("_", "-")
        raise UserError(f"--{option}: {first['msg']}, not {first['input']!r}") from None
    if not files.empty_or_new(out):
        raise UserError(f"{out} exists and is not empty: choose another folder or remove it")
    texts = _texts(sources, column, language, field, split, name, limit)
    text = TextInput(learn(balanced(texts, options.temperature), options))
    with files.new_folder(out) as folder:
        text.save(folder / "tokenizer.json")
    records = _fertility(text, texts())
    if json:
        print_json({"tokenizer": str(out), "vocab_size": text.vocab_size, "languages": records})
    else:
        _print(records)
        typer.echo(f"wrote {out}: {text.vocab_size} pieces, {kind}")


@app.command()
def score(
    tokenizer: Annotated[
        str, typer.Argument(help="A model's source, a folder with tokenizer.json, or that file.")
    ],
    sources: Sources,
    column: Column = None,
    language: Language = "language",
    field: Field = None,
    split: Split = None,
    name: Name = None,
    limit: Limit = None,
    json: Json = False,
) -> None:
    """Say how well a TOKENIZER fits the texts of SOURCES, by language.

    Example: unmask tokenizer score runs/demo/bundle "texts/{language}.txt"
    """
    from unmask.cli.output import print_json
    from unmask.errors import UserError
    from unmask.inputs.text import TextInput
    from unmask.interop import tokenizer_file

    text = TextInput.read(tokenizer_file(tokenizer))
    records = _fertility(text, _texts(sources, column, language, field, split, name, limit)())
    if not records:
        wanted = ", ".join(column or ["text"])
        raise UserError(f"{sources[0]} holds no text in {wanted}; name its texts by --column")
    if json:
        print_json({"tokenizer": tokenizer, "vocab_size": text.vocab_size, "languages": records})
    else:
        _print(records)


def _texts(
    paths: list[str],
    columns: list[str] | None,
    language: str,
    field: str | None,
    split: str | None,
    name: str | None,
    limit: int | None,
) -> Callable[[], Iterator[Spoken]]:
    """The texts of a source with their languages, as often as they are asked for."""
    from unmask.data.sources import read, require
    from unmask.recipe import Source

    rows = read(Source(path=paths, field=field, split=split, name=name, limit=limit))
    wanted = columns or ["text"]
    known = language in rows.column_names
    require(rows, wanted if known or language == "language" else [*wanted, language])

    def texts() -> Iterator[Spoken]:
        for cells in rows.values([*wanted, *[language] * known]):
            said = cells.pop() if known else None
            tongue = None if said in (None, "") else str(said)
            for cell in cells:
                some = cell if isinstance(cell, list) else [cell]  # a list of words
                yield from ((tongue, one) for one in some if isinstance(one, str))

    return texts


def _fertility(text: TextInput, texts: Iterable[Spoken]) -> list[dict[str, Any]]:
    from unmask.inputs.vocabulary import fertility

    return [own.record(language) for language, own in fertility(text, texts).items()]


def _print(records: list[dict[str, Any]]) -> None:
    from unmask.cli.output import print_table

    rows = [
        [
            one["language"] or ("all" if len(records) == 1 else "–"),
            one["texts"],
            "–" if one["tokens_per_word"] is None else one["tokens_per_word"],
            one["tokens_per_character"],
            one["unknown_rate"],
        ]
        for one in records
    ]
    names = ["language", "texts", "tokens per word", "tokens per character", "unknown"]
    print_table("", names, rows)
