"""The documentation as a site in two languages, which opens from its folder: `make site`.

Each language is put together in a temporary folder from the pages of the repository and those that
`reference/` makes from the code; Zensical then builds it into `site/`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import yaml
from pages import ROOT, Tree, title
from reference import PAGES

HERE = Path(__file__).parent
REDIRECT = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>unmask</title>
<meta http-equiv="refresh" content="0; url=en/index.html">
<p><a href="en/index.html">English</a> · <a href="zh/index.html" lang="zh">简体中文</a></p>
</html>
"""
MADE = "docs/reference"  # no folder of the repository
NAMES = {"en": "English", "zh": "简体中文"}
ABOUT = {
    "en": "One package and one command for the whole life of a BERT-family encoder",
    "zh": "一个包，一条命令，照管 BERT 类编码器的一生",
}
PALETTE = {
    "en": ("As the system", "Light", "Dark"),
    "zh": ("跟随系统", "浅色", "深色"),
}


def main() -> None:
    """Build both languages; exit code 1 where anything is amiss."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "site", help="replaced if it is there")
    out: Path = parser.parse_args().out.resolve()
    sections = yaml.safe_load((HERE / "navigation.yaml").read_text(encoding="utf-8"))
    trees = {name: Tree(name, {p: text(p) for p in paths(sections[name])}) for name in NAMES}
    there = {page.relative_to(ROOT).as_posix() for page in (ROOT / "docs").rglob("*.md")}
    if missing := there.difference(*(tree.pages for tree in trees.values())):
        sys.exit(f"navigation.yaml does not name {', '.join(sorted(missing))}")
    with tempfile.TemporaryDirectory() as work:
        made = [build(tree, trees, sections[tree.language], Path(work)) for tree in trees.values()]
        shutil.rmtree(out, ignore_errors=True)
        for language, folder in zip(NAMES, made, strict=True):
            shutil.copytree(folder, out / language)
    (out / "index.html").write_text(REDIRECT, encoding="utf-8")


def build(tree: Tree, trees: dict[str, Tree], sections: dict[str, Any], work: Path) -> Path:
    """The folder with one language, built; `work` is an empty one."""
    (other,) = (trees[name] for name in NAMES if name != tree.language)
    folder = work / tree.language
    tree.write(folder / "pages", other)
    shutil.copytree(HERE / "assets", folder / "pages" / "assets")
    config = folder / "zensical.toml"
    config.write_text(configuration(tree, sections, folder), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict", "--clean", "-f", config],
        env={**os.environ, "PYTHONPATH": f"{HERE}:{os.environ.get('PYTHONPATH', '')}"},
        cwd=ROOT,
    )
    if done.returncode:
        sys.exit(f"the site in {NAMES[tree.language]} was not built")
    return folder / "site"


def paths(sections: Any) -> list[str]:
    """The pages that sections hold, as paths in the repository, in the order shown."""
    if isinstance(sections, dict):
        return [path for part in sections.values() for path in paths(part)]
    found = []
    for name in sections:
        if name == MADE:
            found += [f"{MADE}/{page}.md" for page in PAGES]
        elif name.endswith(".md"):
            found.append(name)
        else:
            found += [p.relative_to(ROOT).as_posix() for p in sorted((ROOT / name).glob("*.md"))]
    return found


def text(path: str) -> str:
    """A page, read or made."""
    if path.startswith(MADE):
        return PAGES[Path(path).stem]()
    return (ROOT / path).read_text(encoding="utf-8")


def configuration(tree: Tree, sections: dict[str, Any], folder: Path) -> str:
    """What Zensical reads for one language."""
    with (HERE / "zensical.toml").open("rb") as file:
        config: dict[str, Any] = tomllib.load(file)["project"]
    (other,) = (name for name in NAMES if name != tree.language)
    config["site_description"] = ABOUT[tree.language]
    config["docs_dir"] = "pages"
    config["nav"] = navigation(tree, sections)
    config["theme"]["language"] = tree.language
    config["theme"]["custom_dir"] = os.path.relpath(HERE / "theme", folder)
    config["theme"]["palette"] = palette(tree.language)
    config["extra"] = {
        "generator": False,
        "alternate": True,  # a list would be in every head, where the script fetches a site map
        "other": {"name": NAMES[other], "link": other, "lang": other},
        # In this place and by this name, or the plugin fetches one from elsewhere.
        "polyfills": ["assets/iframe-worker.js"],
    }
    return "[project]\n" + "".join(f"{key} = {toml(value)}\n" for key, value in config.items())


def navigation(tree: Tree, sections: Any) -> list[Any]:
    """Sections, their parts and their pages, as Zensical wants them."""
    if isinstance(sections, dict):
        made = []
        for name, part in sections.items():
            inside = navigation(tree, part)
            if inside:
                alone = len(inside) == 1 and part in (["README.md"], ["README.zh-CN.md"])
                made.append({name: next(iter(inside[0].values())) if alone else inside})
        return made
    return [{title(tree.pages[path]): tree.place(path)} for path in paths(sections)]


def palette(language: str) -> list[dict[str, Any]]:
    """As the system, light, dark: a button goes from one to the next."""
    names = PALETTE[language]
    looks = [
        {"media": "(prefers-color-scheme)"},
        {"media": "(prefers-color-scheme: light)", "scheme": "default"},
        {"media": "(prefers-color-scheme: dark)", "scheme": "slate"},
    ]
    icons = ("lucide/sun-moon", "lucide/sun", "lucide/moon")
    return [
        {**look, "toggle": {"icon": icon, "name": names[(i + 1) % 3]}}
        for i, (look, icon) in enumerate(zip(looks, icons, strict=True))
    ]


def toml(value: Any) -> str:
    """Plain data as TOML, tables inline."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{toml(str(k))} = {toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(toml(v) for v in value) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


if __name__ == "__main__":
    main()
