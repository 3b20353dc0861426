"""A checkpoint's folder, from which nothing outside is ever read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from unmask.errors import UserError
from unmask.files import links_out, read_json

_TEXT_LIMIT = 100 * 2**20


@dataclass(frozen=True)
class Folder:
    """Files by name, refused where a name or a link leads out of the folder."""

    path: Path
    root: Path  # links may stay anywhere below here: the whole checkpoint's folder

    @classmethod
    def open(cls, path: Path) -> Folder:
        """The folder of a whole checkpoint."""
        if not path.is_dir():
            raise UserError(f"{path} is not a folder; give the folder that holds config.json")
        return cls(path, path)

    def sub(self, name: str) -> Folder:
        """A folder within this one; an empty name is the folder itself."""
        return Folder(self._inside(name), self.root)

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return (self.path / name).is_file()

    def file(self, name: str, limit: int | None = _TEXT_LIMIT) -> Path:
        """The path of a file that exists, lies inside, and has at most `limit` bytes."""
        path = self._inside(name)
        if not path.is_file():
            raise UserError(f"{path} is missing: is the folder complete?")
        if limit is not None and path.stat().st_size > limit:
            raise UserError(
                f"{path} has {path.stat().st_size >> 20} MB, over the limit of {limit >> 20} MB "
                "for such a file; is it really this model's?"
            )
        return path

    def json(self, name: str) -> dict[str, Any]:
        """A JSON object; an empty one where there is no such file."""
        if not self.has(name):
            return {}
        value = read_json(self.file(name))
        if not isinstance(value, dict):
            raise UserError(f"{self.path / name} does not hold a JSON object; fetch it again")
        return value

    @contextmanager
    def explain(self, name: str) -> Iterator[None]:
        """Say that it was in this file that a setting is missing or wrong."""
        path = self.path / name
        try:
            yield
        except KeyError as error:
            raise UserError(f"{path} lacks {error.args[0]!r}; fetch it again") from None
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise UserError(f"{path} cannot be right: {where} {first['msg']}") from None
        except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise UserError(f"{path} has a setting of the wrong kind ({error})") from None
        except UserError as error:
            raise UserError(f"{path}: {error}") from None

    def _inside(self, name: str) -> Path:
        path = self.path / name
        plain = not Path(name).is_absolute() and ".." not in Path(name).parts
        if not plain or links_out(path, self.root):
            raise UserError(
                f"{name!r} leads out of the folder {self.path}; put the file itself into the folder"
            )
        return path
