"""From a file to Arrow batches, with one clear line for every way a file can be broken.

What a file says is taken as it is written. In CSV, TSV and YAML every value is a text: `NA` and
`null` stay words, `007` keeps its zeros, and an empty cell is an empty text. JSON and Parquet carry
types of their own, which are kept. Arrow's and pandas' own CSV and JSON readers guess types and
missing values and pad short rows in silence; hence the standard library's parsers here.
"""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import yaml

from unmask.data import squad
from unmask.data.columns import plain
from unmask.errors import UserError

BATCH = 4096  # rows

Row = dict[str, Any]


def batches(path: Path, field: str | None) -> Iterator[pa.RecordBatch]:
    """The rows of one file, its format told by its suffix; `.gz` may follow any text format."""
    suffix = _suffix(path)
    if field and suffix not in _DOCUMENTS:
        raise UserError(f"{path}: `field` is for JSON and YAML documents; leave it out")
    try:
        if suffix != ".txt" and not path.stat().st_size:
            raise UserError(f"{path} is empty; write rows into it, or leave it out of the path")
        if suffix == ".parquet":
            yield from _parquet(path)
        elif suffix in _DOCUMENTS:
            with _open(path) as file:
                rows = _rows(_DOCUMENTS[suffix](file, path), path, field)
            yield from _batched(iter(enumerate(rows, 1)), path, "row")
        elif suffix in _LINES:
            with _open(path) as file:
                yield from _batched(_LINES[suffix](file, path), path, "line")
        else:
            known = ", ".join([".parquet", *_LINES, *_DOCUMENTS])
            raise UserError(f"{path}: {suffix or 'no suffix'} is no known format; known: {known}")
    except UnicodeDecodeError:
        raise UserError(f"{path}{_undecodable(path)} is not UTF-8; save it as UTF-8") from None
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} could not be read: {error}; fetch or write it again") from None


def readable(path: Path) -> bool:
    """Whether it is a file of a format that `batches` knows, by its suffix."""
    return path.is_file() and _suffix(path) in {".parquet", *_LINES, *_DOCUMENTS}


def _suffix(path: Path) -> str:
    return Path(path.stem if path.suffix == ".gz" else path).suffix.lower()


def _open(path: Path) -> TextIO:
    """A text file, less the byte order mark that some editors put at its start."""
    opener: Callable[..., TextIO] = gzip.open if path.suffix == ".gz" else open
    return opener(path, "rt", encoding="utf-8-sig", newline="")


def _undecodable(path: Path) -> str:
    opener: Callable[..., Any] = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return f", line {number}"
    return ""


def _parquet(path: Path) -> Iterator[pa.RecordBatch]:
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(BATCH):
                yield plain(batch)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise UserError(
            f"{path} is not readable Parquet ({reason}); fetch or write it again"
        ) from None


def _text(file: TextIO, path: Path) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(file, 1):
        if line.strip():
            yield number, {"text": line.rstrip("\r\n")}


def _csv(file: TextIO, path: Path, delimiter: str = ",") -> Iterator[tuple[int, Row]]:
    csv.field_size_limit(2**31 - 1)  # a whole document may stand in one cell; the default is 128 kB
    reader = csv.reader(file, delimiter=delimiter, strict=True)
    start = 1  # a row may span lines: it is named by its first
    try:
        header = next(reader, [])
        twice = [name for name in header if header.count(name) > 1]
        if twice:
            raise UserError(f"{path}, line 1: two columns are called {twice[0]!r}; rename one")
        start = reader.line_num + 1
        for cells in reader:
            if cells and len(cells) != len(header):
                raise UserError(
                    f"{path}, line {start}: {len(cells)} cells, where the header has "
                    f'{len(header)}; put texts that hold {delimiter!r} between "double quotes"'
                )
            if cells:
                yield start, dict(zip(header, cells, strict=True))
            start = reader.line_num + 1
    except csv.Error as error:
        raise UserError(
            f"{path}, line {start}: {error}; a cell that begins with a double quote must end "
            "with one, and quotes inside it are doubled"
        ) from None


def _tsv(file: TextIO, path: Path) -> Iterator[tuple[int, Row]]:
    return _csv(file, path, delimiter="\t")


def _conll(file: TextIO, path: Path) -> Iterator[tuple[int, Row]]:
    """A word a line, its tag in the last column, and a blank line behind each sentence."""
    row: dict[str, list[str]] = {"tokens": [], "tags": []}
    start, columns, first = 1, 0, 1  # of the sentence; how many columns there are, by which line
    for number, line in enumerate(file, 1):
        cells = line.rstrip("\r\n").split("\t") if "\t" in line else line.split()
        if not any(cell.strip() for cell in cells) or cells[0] == "-DOCSTART-":
            if row["tokens"]:
                yield start, row
            row = {"tokens": [], "tags": []}
            continue
        if not columns:
            columns, first = len(cells), number
        if len(cells) != columns or columns < 2:
            raise UserError(
                f"{path}, line {number}: {len(cells)} column(s), where line {first} has {columns}; "
                "write a word, a blank or a tab, and its tag, or leave the line blank"
            )
        if not row["tokens"]:
            start = number
        row["tokens"].append(cells[0])
        row["tags"].append(cells[-1])
    if row["tokens"]:
        yield start, row


def _json_lines(file: TextIO, path: Path) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = getattr(error, "msg", error)
            raise UserError(f"{path}, line {number} is not JSON: {reason}; mend the line") from None
        if not isinstance(row, dict):
            raise UserError(
                f'{path}, line {number} is no JSON object: write {{"column": value, …}}'
            )
        yield number, row


def _json(file: TextIO, path: Path) -> Any:
    """A document as it is; of one in SQuAD's layout, its questions."""
    text = file.read()
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}, line {error.lineno} is not JSON: {error.msg} at column {error.colno}; "
            "if every line is an object of its own, call the file .jsonl"
        ) from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, or nesting
        raise UserError(f"{path} is not JSON that can be read: {error}") from None
    return squad.questions(document, path) if squad.is_nested(document) else document


def _yaml(file: TextIO, path: Path) -> Any:
    # The base loader leaves every scalar the text it is (`yes`, 1999, 007) and builds no objects.
    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    try:
        return yaml.load(file, Loader=loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{path}{line} is not YAML: {error.problem}; mend the line") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{path} is not YAML: {error}") from None


def _rows(document: Any, path: Path, field: str | None) -> list[Row]:
    """The rows of a document: a list of objects as they are, or every text at any depth."""
    if isinstance(document, dict):
        keys = ", ".join(map(str, document))
        if field not in document:
            raise UserError(f"{path}: set `field` to the key whose list holds the rows, of: {keys}")
        document = document[field]
    elif field:
        raise UserError(f"{path} has no keys, so no {field!r}: leave `field` out")
    if not isinstance(document, list):
        raise UserError(f"{path} holds no list of rows" + (f" under {field!r}" if field else ""))
    if document and all(isinstance(item, dict) for item in document):
        return document
    try:
        return [{"text": text} for text in _texts(document)]
    except RecursionError:
        raise UserError(f"{path} is nested too deeply to be rows") from None


def _texts(item: Any) -> Iterator[str]:
    if isinstance(item, list | dict):
        for part in item.values() if isinstance(item, dict) else item:
            yield from _texts(part)
    elif item is not None and str(item).strip():
        yield str(item)


def _batched(rows: Iterator[tuple[int, Row]], path: Path, unit: str) -> Iterator[pa.RecordBatch]:
    while block := list(islice(rows, BATCH)):
        names = dict.fromkeys(name for _, row in block for name in row)
        yield pa.RecordBatch.from_arrays(
            [_array(name, block, path, unit) for name in names], names=list(names)
        )


def _array(name: str, block: list[tuple[int, Row]], path: Path, unit: str) -> pa.Array:
    try:
        return pa.array([row.get(name) for _, row in block])
    except (pa.ArrowException, OverflowError, UnicodeError):
        number, value = _odd_one(name, block)
        raise UserError(
            f"{path}, {unit} {number}: {name!r} is {str(value)[:40]!a}, unlike the rows before it; "
            "give every row of a column one type, and only Unicode text"
        ) from None


def _odd_one(name: str, block: list[tuple[int, Row]]) -> tuple[int, Any]:
    """The first row that makes the column unfit for one type."""
    low, high = 0, len(block)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            pa.array([row.get(name) for _, row in block[:middle]])
            low = middle
        except (pa.ArrowException, OverflowError, UnicodeError):
            high = middle
    return block[low][0], block[low][1].get(name)


_LINES: dict[str, Callable[[TextIO, Path], Iterator[tuple[int, Row]]]] = {
    ".txt": _text,
    ".csv": _csv,
    ".tsv": _tsv,
    ".conll": _conll,
    ".bio": _conll,
    ".iob": _conll,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
}
_DOCUMENTS: dict[str, Callable[[TextIO, Path], Any]] = {
    ".json": _json,
    ".yml": _yaml,
    ".yaml": _yaml,
}
