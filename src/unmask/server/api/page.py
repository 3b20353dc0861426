"""The page at `/`: files that come with the package."""

from __future__ import annotations

from functools import cache
from importlib import resources

from fastapi import APIRouter, Response

from unmask.server.errors import Refusal

router = APIRouter(include_in_schema=False)

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@cache
def _files() -> dict[str, tuple[bytes, str]]:
    """All files of the page, by name: nothing else can be asked for."""
    folder = resources.files("unmask.server") / "page"
    found = {}
    for file in folder.iterdir():
        kind = _TYPES.get(f".{file.name.rpartition('.')[2]}")
        if kind:
            found[file.name] = (file.read_bytes(), kind)
    return found


@router.get("/")
async def index() -> Response:
    """The page itself."""
    return _file("index.html")


@router.get("/page/{name}")
async def part(name: str) -> Response:
    """A script, a style or a picture of the page."""
    return _file(name)


@router.get("/favicon.ico")
async def icon() -> Response:
    """The same picture as the page's."""
    return _file("icon.svg")


def _file(name: str) -> Response:
    if name not in _files():
        raise Refusal(404, "no_such_path", "there is nothing here")
    body, kind = _files()[name]
    return Response(body, media_type=kind, headers={"cache-control": "no-cache"})
