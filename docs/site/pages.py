"""The pages of one language as a tree that stands by itself: places, links, lists."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"(?<=\]\()([^)\s#]*)(#[^)\s]*)?(?=\))")
FENCE = re.compile(r"^(```.*?^```$)", re.MULTILINE | re.DOTALL)
# A line of Chinese goes on in the next one without the space that a browser would put there; nor is
# there one beside a mark that is as wide as a character.
WIDE, MARK = r"\u3000-\u303f\u3400-\u9fff\uff00-\uffef“”‘’…", r"，。；：、！？（）《》「」"
BROKEN = re.compile(
    rf"(?:(?<=[{WIDE}])\n *(?=[{WIDE}])|(?<=[{MARK}])\n *(?=\S)|(?<=\S)\n *(?=[{MARK}]))"
    r"(?!#|>|\||[-*+] |\d+\. |<!--|\$\$)"
)
ITEM = re.compile(r"([-*]|\d+\.) ")
SHOWN = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".json": "json", ".md": "markdown",
         ".toml": "toml", ".sh": "bash"}  # fmt: skip
# Listed in no navigation and found by no search: they are what pages link to.
SOURCE = "---\nsearch:\n  exclude: true\n---\n\n"


def title(text: str) -> str:
    """The first heading of a page."""
    found = re.search(r"^# (.+)$", text, re.MULTILINE)
    if found is None:
        raise ValueError(f"a page without a heading: {text[:60]!r}")
    return found.group(1).replace("`", "")


class Tree:
    """The pages of one language, and the files of the repository that they link to."""

    def __init__(self, language: str, pages: dict[str, str]) -> None:
        self.language = language
        self.pages = pages
        self.sources: dict[str, str] = {}

    def place(self, path: str) -> str:
        """Where a page of the repository stands in this language's tree."""
        if path in ("README.md", "README.zh-CN.md"):
            return "index.md"
        path = path.removeprefix("docs/")
        for part in ("guide", "howto"):
            path = path.replace(f"{part}/{self.language}/", f"{part}/")
        return path

    def write(self, folder: Path, other: Tree) -> None:
        """Write every page, with links that hold in the site; `other` is the other language."""
        shared = {self.place(path) for path in self.pages} & {
            other.place(path) for path in other.pages
        }
        for path, text in self.pages.items():
            place = self.place(path)
            head = f"---\nother: {html(place)}\n---\n\n" if place in shared else ""
            _put(folder / place, head + spaced(self.linked(path, text, other)))
        waiting = dict(self.sources)
        while waiting:
            path, place = waiting.popitem()
            _put(folder / place, SOURCE + self.shown(path, other))
            waiting |= {p: q for p, q in self.sources.items() if not (folder / q).exists()}
        shutil.copytree(ROOT / "docs" / "figures", folder / "figures")

    def linked(self, path: str, text: str, other: Tree) -> str:
        """The page with links that lead to where things stand in the site."""

        def lead(match: re.Match[str]) -> str:
            target, anchor = match.group(1), match.group(2) or ""
            if not target or "://" in target or target.startswith("mailto:"):
                return match.group(0)
            wanted = os.path.normpath(os.path.join(os.path.dirname(path), target))
            here = os.path.dirname(self.place(path))
            return os.path.relpath(self.found(wanted, here, other), here or ".") + anchor

        parts = FENCE.split(text)
        return "".join(part if part.startswith("```") else LINK.sub(lead, part) for part in parts)

    def found(self, wanted: str, here: str, other: Tree) -> str:
        """Where something of the repository stands in this tree, or beside it."""
        if wanted in self.pages:
            return self.place(wanted)
        if wanted in other.pages:
            return f"../{other.language}/{html(other.place(wanted))}"
        if wanted == "docs/decisions" and self.language == "en":
            return self.place("docs/decisions/0001-libraries.md")
        if wanted.startswith("docs/figures/"):
            return wanted.removeprefix("docs/")
        if not (ROOT / wanted).exists():
            raise ValueError(f"a link to {wanted}, which is not there")
        place = f"source/{wanted}/index.md" if (ROOT / wanted).is_dir() else f"source/{wanted}.md"
        self.sources[wanted] = place
        return place

    def shown(self, path: str, other: Tree) -> str:
        """A page that shows a file, or lists a folder."""
        full = ROOT / path
        if full.is_dir():
            names = [p.name for p in sorted(full.iterdir()) if not p.name.startswith(("_", "."))]
            here = f"source/{path}"
            lines = [
                f"- [{name}]({os.path.relpath(self.found(f'{path}/{name}', here, other), here)})"
                for name in names
            ]
            return f"# {path}\n\n" + "\n".join(lines) + "\n"
        text = full.read_text(encoding="utf-8")
        fence = "````" if "```" in text else "```"
        return f"# {path}\n\n{fence}{SHOWN.get(full.suffix, 'text')}\n{text}{fence}\n"


def html(place: str) -> str:
    """A page's name once it is built."""
    return place.removesuffix(".md") + ".html"


def spaced(text: str) -> str:
    """The page as a browser needs it.

    With the blank line before a list that Python-Markdown wants and GitHub does not, and without
    spaces where lines of Chinese are joined.
    """
    return "".join(
        part if part.startswith("```") else BROKEN.sub("", "\n".join(_spaced(part.split("\n"))))
        for part in FENCE.split(text)
    )


def _spaced(lines: list[str]) -> Iterator[str]:
    before = ""
    for line in lines:
        inside = before.startswith(" ") or ITEM.match(before)
        if ITEM.match(line) and before.strip() and not inside:
            yield ""
        yield line
        before = line


def _put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
