"""The table of the guide's twenty questions, from bench/twenty.yaml and the results on disk.

    UNMASK_DATA=… make twenty                   # runs the fast parts anew, ten minutes or more
    .venv/bin/python bench/twenty.py --table    # runs nothing: only what is in bench/results

The slow parts are never run here: their figures are those of the kept files, with their dates.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from machine import machine, run_json, versions
from results import RESULTS, UNMASK

ROOT = Path(__file__).parents[1]
LIST = Path(__file__).with_suffix(".yaml")
CHAPTER = "docs/guide/{language}/14-twenty-questions.md"
TABLE = re.compile(r"(<!-- twenty -->\n\n).*?(\n<!-- /twenty -->)", re.DOTALL)
WORDS: dict[str, dict[str, Any]] = {
    "en": {
        "head": ("question", "command, and recipe", "figure", "run"),
        "missing": "not measured yet",
        "stop": ": ",
        "and": "; ",
        "fast": "fast",
        "slow": "slow",
        "log": "a log",
        "undated": "no date",
        "busy": ", busy (load {:.0f})",
    },
    "zh": {
        "head": ("问题", "命令与配方", "数字", "何时跑的"),
        "missing": "还没有实测",
        "stop": "：",
        "and": "；",
        "fast": "快",
        "slow": "慢",
        "log": "日志",
        "undated": "没有日期",
        "busy": "，很忙（负载 {:.0f}）",
    },
}
MACHINES = ("H200", "Xeon", "EPYC")  # short names of what was measured on


@dataclass(frozen=True)
class Figure:
    """Values from a result; written as their mean, and ± their deviation if they repeat."""

    values: tuple[float, ...]
    sd: float | None = None

    @property
    def mean(self) -> Figure:
        """The mean, without ±."""
        return Figure((statistics.mean(self.values),))

    @property
    def least(self) -> Figure:
        """The lowest value."""
        return Figure((min(self.values),))

    @property
    def most(self) -> Figure:
        """The highest value."""
        return Figure((max(self.values),))

    def __format__(self, spec: str) -> str:
        """As a float; `%` is in hundredths, without the sign."""
        scale, spec = (100, f"{spec[:-1]}f") if spec.endswith("%") else (1, spec)
        mean = format(scale * statistics.mean(self.values), spec)
        return mean if self.sd is None else f"{mean} ± {scale * self.sd:{spec}}"


def figure(path: list[Any]) -> Figure:
    """What stands in the files that the first step names, where the others lead.

    Where there is no such file, or its run left out what the second step names: FileNotFoundError.
    """
    name, *steps = path
    files = sorted(RESULTS.glob(name))
    if not files or (files[0].suffix == ".json" and _read(files[0]).get(steps[0]) is None):
        raise FileNotFoundError(name)
    if name.endswith(".log"):
        found = [float(v) for v in re.findall(steps[0], files[0].read_text(encoding="utf-8"))]
        return _repeated(found)
    values = [_value(_at(_read(file), steps)) for file in files]
    return values[0] if len(values) == 1 else _repeated([v.values[0] for v in values])


@cache
def _read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def _at(data: Any, steps: list[Any]) -> Any:
    """Where the steps lead; `*` gives the means of all that has the rest."""
    for i, step in enumerate(steps):
        if step == "*":
            rest = steps[i + 1 :]
            some = [one for one in data.values() if not rest or rest[0] in one]
            return [_value(_at(one, rest)).mean.values[0] for one in some]
        if isinstance(step, dict):
            data = next(x for x in data if all(x.get(k) == v for k, v in step.items()))
        else:
            data = data[step]
    return data


def _value(data: Any) -> Figure:
    """A number, a list of them, or a mean with its deviation."""
    if isinstance(data, dict):
        return Figure((data["mean"] if "mean" in data else data["value"],), data.get("sd"))
    return _repeated(data) if isinstance(data, list) else Figure((float(data),))


def _repeated(values: list[float]) -> Figure:
    return Figure(tuple(values), statistics.stdev(values) if len(values) > 1 else None)


def told(question: dict[str, Any], language: str) -> tuple[str, list[str]]:
    """What is known of a question, and the files that say it."""
    words, said, files = WORDS[language], [], []
    for part in question["parts"]:
        if (RESULTS / part.get("unless", "none")).exists():
            continue
        try:
            figures = {name: figure(path) for name, path in part["figures"].items()}
        except FileNotFoundError:
            if "what" in part:
                said.append(f"{part['what'][language]}{words['stop']}{words['missing']}")
            continue
        said.append(part[language].format(**figures))
        files += [path[0] for path in part["figures"].values()]
    if not files:
        said = [question.get("missing", {}).get(language, words["missing"])]
    return words["and"].join(said), list(dict.fromkeys(files))


def runs(files: list[str], data: dict[str, Any], language: str) -> str:
    """How and on what the files were made, and the day of each with a link."""
    words = WORDS[language]
    fast = {part["file"] for part in data["fast"]}
    dates = {file: day for day, own in data["dates"].items() for file in own}
    days: dict[str, list[str]] = {}
    for name in files:
        file = sorted(RESULTS.glob(name))[0]
        kept = {} if file.suffix == ".log" else _read(file)
        mine = kept.get("machine") or {}
        named = re.search(r"\d{4}-\d\d-\d\d", name)
        day = mine.get("date") or kept.get("date") or (named and named[0]) or dates.get(file.name)
        full = f"{mine.get('gpu') or ''} {mine.get('processor', '')}"
        short = next((one for one in MACHINES if one in full), full.strip())
        load = kept.get("load", 0)
        if load > mine.get("cores", load):
            short += words["busy"].format(load)
        kind = words["log"] if file.suffix == ".log" else words["fast" if name in fast else "slow"]
        link = f"[{str(day or words['undated'])[:10]}](../../../bench/results/{file.name})"
        days.setdefault(" ".join(filter(None, (kind, short))), []).append(link)
    return "<br>".join(f"{how} {', '.join(links)}" for how, links in days.items())


def table(data: dict[str, Any], language: str) -> str:
    """The whole table as Markdown."""
    lines = [f"| # | {' | '.join(WORDS[language]['head'])} |", "|---:|---|---|---|---|"]
    for number, question in enumerate(data["questions"], 1):
        said, files = told(question, language)
        recipes = [f"[{r}](../../../recipes/{r}.yaml)" for r in question.get("recipes", ())]
        commands = [f"`{command}`" for command in question["commands"]]
        cells = (
            question["question"][language],
            "<br>".join([*commands, *filter(None, [", ".join(recipes)])]),
            said,
            runs(files, data, language) or "–",
        )
        lines.append(f"| {number} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def chapter(data: dict[str, Any], language: str) -> tuple[Path, str]:
    """The chapter with the questions, and how it should read."""
    file = ROOT / CHAPTER.format(language=language)
    new = table(data, language)
    text, tables = TABLE.subn(lambda m: m[1] + new + m[2], file.read_text(encoding="utf-8"))
    if tables != 1:
        raise SystemExit(f"{file}: {tables} places for the table, where there should be one")
    return file, text


def run_fast(part: dict[str, Any]) -> None:
    """Run a fast part and keep what it printed."""
    with tempfile.TemporaryDirectory() as folder:
        program, *words = part["command"].format(folder=f"{folder}/run").split()
        start = [str(UNMASK)] if program == "unmask" else [sys.executable, program]
        found = run_json([*start, *words])
    kept = {"command": part["command"], **{key: found[key] for key in part["keep"]}}
    load = round(os.getloadavg()[1], 1)  # processes that wanted a core in these minutes
    kept |= {"load": load, "machine": machine(), "versions": versions()}
    (RESULTS / part["file"]).write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Run the fast parts unless told not to, and write the table in both languages."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--table", action="store_true", help="run nothing, write the table")
    parser.add_argument("--only", help="the file of the one fast part to run")
    options = parser.parse_args()
    data = yaml.safe_load(LIST.read_text(encoding="utf-8"))
    if not options.table:
        if "UNMASK_DATA" not in os.environ:
            raise SystemExit("set UNMASK_DATA to the data's folder, or give --table")
        os.chdir(ROOT)
        for part in data["fast"]:
            if options.only not in (None, part["file"]):
                continue
            print(part["command"], file=sys.stderr, flush=True)
            run_fast(part)
    for language in WORDS:
        file, text = chapter(data, language)
        file.write_text(text, encoding="utf-8")
        print(f"wrote {file.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
