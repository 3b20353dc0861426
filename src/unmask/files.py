"""Writing files and folders whole or not at all, and reading JSON with one clear error."""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unmask.errors import UserError

_ADVICE = (
    "could not write {}: {}; nothing half-written was left there. "
    "Free some space or choose another folder"
)
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def read_json(path: Path) -> Any:
    """The content of a JSON file; a UserError names the file when it is missing or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing: is the folder complete?") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not readable JSON ({error}); fetch or write it again") from None


def write_text(path: Path, text: str) -> None:
    """Write a text file under a temporary name, flush it to disk, and rename it into place."""
    with new_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def sha256(path: Path) -> str:
    """The hash of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`; what was written there takes its place at the end."""
    path = path.absolute()
    with told_of_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
        partial = Path(name)
        try:
            yield partial
            _flush(partial)
            partial.chmod(0o666 & ~_umask())
            partial.replace(path)
            _flush(path.parent)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path`; it takes the place of `path` whole at the end.

    On an error or an interrupt nothing is left, and what stood at `path` stands as it was.
    """
    path = path.resolve()
    with told_of_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        try:
            yield partial
            for file in partial.rglob("*"):
                _flush(file)
            partial.chmod(0o777 & ~_umask())
            _flush(partial)
            if path.exists():
                _exchange(partial, path)
            else:
                partial.replace(path)
            _flush(path.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def told_of_disk(path: Path) -> Iterator[None]:
    """Turn what the disk says against writing `path` into a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(_ADVICE.format(path, error.strerror or error)) from error
    except Exception as error:  # safetensors has its own class for what the disk says
        if type(error).__name__ != "SafetensorError":
            raise
        raise UserError(_ADVICE.format(path, error)) from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """A folder in which no other process works as long as this is open; it is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"another process is building in {folder}; wait for it") from None
        yield


def remove(path: Path) -> None:
    """Remove a file or folder in one step: a kill leaves it whole, or under a hidden name."""
    aside = path.with_name(f".{path.name}.replaced")
    path.replace(aside)
    shutil.rmtree(aside, ignore_errors=True) if aside.is_dir() else aside.unlink()


def empty_or_new(path: Path) -> bool:
    """Whether a folder can be written there without touching anything."""
    if path.exists() and not path.is_dir():
        raise UserError(f"{path} is a file: choose another name for the folder")
    return not path.exists() or not any(path.iterdir())


def links_out(file: Path, folder: Path) -> bool:
    """Whether a file's link leads out of its folder; a hub cache's own blobs count as inside."""
    homes = [folder.resolve()]
    if homes[0].parent.name == "snapshots":  # the hub's cache links its snapshots to its blobs
        homes.append(homes[0].parent.parent / "blobs")
    return not any(file.resolve().is_relative_to(home) for home in homes)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    value = os.umask(0)
    os.umask(value)
    return value


def _exchange(new: Path, old: Path) -> None:
    """Swap two folders in one step where the system can (Linux), else in two renames."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    swapped = (
        renameat2 is not None
        and renameat2(_AT_FDCWD, os.fsencode(new), _AT_FDCWD, os.fsencode(old), _RENAME_EXCHANGE)
        == 0
    )
    if not swapped:
        aside = old.with_name(f".{old.name}.replaced")
        old.replace(aside)
        new.replace(old)
        shutil.rmtree(aside)
