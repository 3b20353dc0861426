"""The rows of recipes/cube.yaml: ten kinds of task, 17 languages, 9 domains, 3 modalities.

    UNMASK_DATA=… .venv/bin/python bench/cube_rows.py runs/cube-rows
    … bench/cube_rows.py runs/cube-few --limit 20 --held 4     # to try it out

One file for each task and split, `NAME-train.parquet` and so on, with the columns `language` and
`domain`. Training rows are at most `--limit` of each language and domain (seven times as many of
raw text, ten times of captions), held-out ones at most `--held`, all drawn by the seed. Held-out
rows are of the published splits; where a set has none, whole paragraphs, pictures and numbers are
held out. What is said, written and drawn comes from bench/one_space.py, spoken.py and emoji.py.
"""

from __future__ import annotations

import argparse
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import emoji
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from num2words import num2words
from one_space import NEW, handwriting, said, written
from spoken import rows_of, speakers

Rows = list[dict[str, Any]]
Splits = dict[str, Rows]

SPLITS = ("train", "valid", "test")
LAST = "senses-test.parquet"
PACKAGES = (
    "cs", "da", "de", "en", "es", "fr", "it", "ja",
    "ko", "pl", "pt", "pt_BR", "ru", "uk", "zh_CN",
)  # fmt: skip
TWEETS = {
    "arabic": "ar", "english": "en", "french": "fr", "german": "de",
    "hindi": "hi", "italian": "it", "portuguese": "pt", "spanish": "es",
}  # fmt: skip
PARAGRAPHS = {"de": "de", "en": "en", "es": "es", "zh": "zh_CN"}
EMOJI = {"zh": "zh_CN"}  # a language that is called otherwise here
SPELT = tuple(x for x in PACKAGES if x != "zh_CN")  # whose numbers num2words knows
BYTES = ("image", "audio")
LIMIT, HELD = 3000, 120  # rows of each cell to learn from, and held out
MORE = {"texts": 7, "captions": 10}  # times as many: there are more, and it takes more


def data(path: str) -> Rows:
    """The rows of one of the data's files."""
    rows: Rows = pq.read_table(f"{os.environ['UNMASK_DATA']}/{path}.parquet").to_pylist()
    return rows


def packages() -> Splits:
    """Descriptions of software, of sections that there are to be learnt."""
    found = {
        split: [
            {x: row[x] for x in ("id", "synopsis", "description", "section", "language")}
            | {"domain": "software"}
            for language in PACKAGES
            for row in data(f"debian/{split}/{language}")
        ]
        for split in SPLITS
    }
    known = {row["section"] for row in found["train"]}
    return {s: [row for row in rows if row["section"] in known] for s, rows in found.items()}


def moods(rng: np.random.Generator) -> Splits:
    """Tweets in eight languages, and sentences on films, whose valid rows are of their train."""
    found: Splits = {
        split: [
            {**row, "language": language, "domain": "tweets"}
            for name, language in TWEETS.items()
            for row in data(f"sentiment/xlmt/{name}/{file}")
        ]
        for split, file in zip(SPLITS, ("train", "val", "test"), strict=True)
    }
    films: Splits = {"train": data("sentiment/sst2/train"), "test": data("sentiment/sst2/dev")}
    films["valid"], films["train"] = parted(films["train"], 0.05, rng)
    for split, rows in films.items():
        found[split] += [
            {
                "text": row["text"],
                "label": ("negative", "positive")[row["label"]],
                "language": "en",
                "domain": "films",
            }
            for row in rows
        ]
    return found


def questions(rng: np.random.Generator) -> Splits:
    """Questions on paragraphs; one paragraph is on one side in all languages."""
    paragraph = {row["id"]: row["context"] for row in data("qa/xquad/en")}
    every = list(dict.fromkeys(paragraph.values()))
    test, rest = parted(every, 0.2, rng)
    valid, _ = parted(rest, 0.1, rng)
    found: Splits = {split: [] for split in SPLITS}
    for name, language in PARAGRAPHS.items():
        for row in data(f"qa/xquad/{name}"):
            own = paragraph[row["id"]]
            side = "test" if own in test else "valid" if own in valid else "train"
            found[side].append({**row, "language": language, "domain": "encyclopedia"})
    return found


def captions() -> Splits:
    """English captions and what they are in German and in Czech; in small letters."""
    files = zip(SPLITS, ("train", "valid", "test2016"), strict=True)
    return {
        split: [
            {
                "language": language,
                "source": row["en"].lower(),
                "target": row[language].lower(),
                "domain": "captions",
            }
            for language in ("cs", "de")
            for row in data(f"translation/multi30k/{file}")
        ]
        for split, file in files
    }


def texts(sets: dict[str, Splits], rng: np.random.Generator) -> Splits:
    """Raw text of every domain: what the other tasks read, of their own split."""
    found: Splits = {split: [] for split in SPLITS}

    def add(split: str, text: str, language: str, domain: str) -> None:
        found[split].append({"text": text, "language": language, "domain": domain})

    for split in SPLITS:
        for row in sets["packages"][split]:
            add(split, row["description"], row["language"], row["domain"])
        for row in sets["moods"][split]:
            add(split, row["text"], row["language"], row["domain"])
        paragraphs = {r["context"]: r["language"] for r in sets["questions"][split]}
        for text, language in paragraphs.items():
            add(split, text, language, "encyclopedia")
        for row in sets["captions"][split]:
            add(split, row["target"], row["language"], row["domain"])
        for source in dict.fromkeys(row["source"] for row in sets["captions"][split]):
            add(split, source, "en", "captions")
    for path, domain in (("intent/banking77", "banking"), ("nlu/snips", "assistant")):
        valid, train = parted(data(f"{path}/train"), 0.05, rng)
        for split, rows in zip(SPLITS, (train, valid, data(f"{path}/test")), strict=True):
            for row in rows:
                add(split, row["text"], "en", domain)
    return found


def digits(rng: np.random.Generator, seed: int) -> Splits:
    """Single digits, handwritten or said."""
    learnt, held = handwriting(seed)
    found: Splits = {}
    for split, pictures in (("train", learnt), ("test", held)):
        found[split] = [
            {"digit": str(d), "image": written(d, {d: [own]}, rng), "audio": None, "language": None}
            for d, some in pictures.items()
            for own in some
        ] + [
            {"digit": str(r["digit"]), "image": None, "audio": r["audio"], "language": "en"}
            for r in data(f"speech/digits/{split}")
        ]
        for row in found[split]:
            row["domain"] = "numbers"
    found["valid"], found["train"] = parted(found["train"], 0.05, rng)
    return found


def connected(count: int, seed: int) -> Splits:
    """Strings of digits, said in noise; the valid ones are of the recordings that are learnt."""
    learnt, held = speakers("train"), speakers("test")
    sides = {"train": (learnt, count), "valid": (learnt, 60), "test": (held, 300)}
    return {
        split: [
            {"audio": row["audio"], "text": row["text"], "language": "en", "domain": "numbers"}
            for row in rows_of(own, rows, seed * 3 + i)
        ]
        for i, (split, (own, rows)) in enumerate(sides.items())
    }


def things(count: int, rng: np.random.Generator, seed: int) -> Splits:
    """What is one thing: numbers said, written and in words, and emoji with their names.

    A row has the words of one language. Of the numbers NEW no training row knows; to be looked for
    are all 100, once in each language.
    """
    learnt, held = handwriting(seed)
    old = [n for n in range(100) if n not in NEW]
    sides = {
        "train": (learnt, speakers("train"), rng.choice(old, count).tolist()),
        "valid": (learnt, speakers("train"), old),
        "test": (held, speakers("test"), [*range(100)]),
    }
    found: Splits = {}
    for split, (pictures, voices, numbers) in sides.items():
        found[split] = []
        for number in numbers:
            views = {"image": written(number, pictures, rng), "audio": said(number, voices, rng)}
            own = [str(rng.choice(SPELT))] if split == "train" else SPELT
            found[split] += [
                {
                    "thing": f"number {number}",
                    "name": num2words(number, lang=language),
                    **views,
                    "language": language,
                    "domain": "numbers",
                }
                for language in own
            ]
        for row in emoji.rows(split):
            names = {EMOJI.get(x, x): name for x, name in row["names"].items()}
            found[split] += [
                {
                    "thing": f"emoji {row['id']}",
                    "name": names[language],
                    "image": row["image"],
                    "audio": None,
                    "language": language,
                    "domain": "emoji",
                }
                for language in PACKAGES
                if names.get(language)
            ]
    return found


def senses(sets: dict[str, Splits]) -> Splits:
    """Pictures and recordings of the others, each once, without any label."""
    found: Splits = {}
    for split in SPLITS:
        own = [{k: row[k] for k in (*BYTES, "domain")} for row in sets["digits"][split]]
        own += [
            {"image": row["image"], "audio": None, "domain": "emoji"} for row in emoji.rows(split)
        ]
        found[split] = own
    return found


def parted(rows: list[Any], share: float, rng: np.random.Generator) -> tuple[list[Any], list[Any]]:
    """So large a share of some rows, and the rest."""
    order = rng.permutation(len(rows)).tolist()
    cut = round(share * len(rows))
    return [rows[i] for i in sorted(order[:cut])], [rows[i] for i in sorted(order[cut:])]


def few(rows: Rows, count: int, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """At most so many rows of each cell: of each language, domain and what a row lacks."""
    cells: dict[tuple[Any, ...], Rows] = defaultdict(list)
    for row in rows:
        cells[row.get("language"), row["domain"], *(row.get(x) is None for x in BYTES)].append(row)
    for own in cells.values():
        chosen = rng.permutation(len(own))[:count].tolist()
        yield from (own[i] for i in sorted(chosen))


def generate(folder: Path, limit: int, held: int, seed: int) -> None:
    """Write the rows of every task and split; LAST is the last file."""
    rng = np.random.default_rng(seed)
    sets: dict[str, Splits] = {
        "packages": packages(),
        "moods": moods(rng),
        "questions": questions(rng),
        "captions": captions(),
        "digits": digits(rng, seed),
        "connected": connected(limit, seed),
        "things": things(4 * limit, rng, seed),
    }
    sets |= {"texts": texts(sets, rng), "senses": senses(sets)}
    folder.mkdir(parents=True, exist_ok=True)
    for name, splits in sets.items():
        for split, rows in splits.items():
            count = limit * MORE.get(name, 1) if split == "train" else held
            own = [*few(rows, count, rng)]
            columns = {
                key: pa.array([row[key] for row in own], None if key == "answers" else kind(key))
                for key in own[0]
            }
            pq.write_table(pa.table(columns), folder / f"{name}-{split}.parquet")


def kind(column: str) -> pa.DataType:
    """Of a column that may be empty."""
    return pa.binary() if column in BYTES else pa.string()


def main() -> None:
    """Write the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--limit", type=int, default=LIMIT, help="training rows of each cell")
    parser.add_argument("--held", type=int, default=HELD, help="held-out rows of each cell")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    generate(options.folder, options.limit, options.held, options.seed)


if __name__ == "__main__":
    main()
