"""BM25 by `bm25s`, stemmed and without stop words: the nearest documents of each query.

Run by `bench/retrieval.py` inside the peers' own environment; prints one JSON object.
"""

import argparse
import json
import time
from importlib.metadata import version
from pathlib import Path

import bm25s
import Stemmer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", help='JSON: {"queries": [texts], "documents": [texts]}')
    parser.add_argument("--top", type=int, default=20)
    options = parser.parse_args()
    given = json.loads(Path(options.file).read_text())
    stemmer = Stemmer.Stemmer("english")

    def tokens(texts: list[str]) -> list[list[str]]:
        return bm25s.tokenize(
            texts, stopwords="en", stemmer=stemmer, return_ids=False, show_progress=False
        )

    began = time.perf_counter()
    index = bm25s.BM25()  # Lucene's form of it, k1 1.5 and b 0.75: the library's defaults
    index.index(tokens(given["documents"]), show_progress=False)
    top = min(options.top, len(given["documents"]))
    found, _ = index.retrieve(tokens(given["queries"]), k=top, show_progress=False)
    seconds = time.perf_counter() - began
    versions = {name: version(name) for name in ("bm25s", "PyStemmer")}
    print(json.dumps({"tops": found.tolist(), "seconds": seconds, "versions": versions}))


if __name__ == "__main__":
    main()
