"""Files and folders are written whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from unmask import files
from unmask.errors import UserError


def test_a_folder_takes_the_place_of_another_whole(tmp_path: Path) -> None:
    place = tmp_path / "place"
    for word in ("old", "new"):
        with files.new_folder(place) as folder:
            files.write_text(folder / f"{word}.txt", word)
    assert [p.name for p in place.iterdir()] == ["new.txt"]
    assert [p.name for p in tmp_path.iterdir()] == ["place"]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, ValueError])
def test_an_interrupt_leaves_things_as_they_were(tmp_path: Path, kind: type) -> None:
    place = tmp_path / "place"
    with files.new_folder(place) as folder:
        files.write_text(folder / "old.txt", "old")

    def interrupted_folder() -> None:
        with files.new_folder(place) as folder:
            files.write_text(folder / "half.txt", "half")
            raise kind

    def interrupted_file() -> None:
        with files.new_file(place / "old.txt") as partial:
            partial.write_text("half")
            raise kind

    for interrupted in (interrupted_folder, interrupted_file):
        with pytest.raises(kind):
            interrupted()
    assert (place / "old.txt").read_text() == "old"
    assert len(list(tmp_path.rglob("*"))) == 2


def test_a_full_disk_is_said_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="place: No space left on device; nothing half-written"):
        files.write_text(tmp_path / "place", "text")
    assert list(tmp_path.iterdir()) == []


def test_broken_json_is_named(tmp_path: Path) -> None:
    bad = tmp_path / "a.json"
    bad.write_text("{")
    with pytest.raises(UserError, match=r"a\.json is not readable JSON"):
        files.read_json(bad)
    with pytest.raises(UserError, match=r"b\.json is missing"):
        files.read_json(tmp_path / "b.json")
