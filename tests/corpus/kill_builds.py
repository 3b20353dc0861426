"""Kill a process that builds a corpus, again and again, until one comes to its end.

    python kill_builds.py RECIPE FOLDER

Run by `test_build.py`. No unit that was done at a kill may be done again by the next one.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

from unmask.corpus import reading, work
from unmask.corpus.build import build
from unmask.errors import UserError


def main() -> None:
    recipe, folder = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    reading.BLOCK_DOCUMENTS, work._PARTS = 16, 4
    os.fsync = lambda handle: None  # a kill loses nothing that was written; a busy disk waits long
    build(recipe, folder.with_name("warm"), workers=1)  # imports, which a fork then has
    place = folder.with_name(f"{folder.name}.work")
    dice = random.Random(0)
    done: dict[Path, int] = {}
    kills = kept = 0
    while not folder.exists():
        more = count(place) + dice.randint(1, 12)  # half-written ones too
        process = os.fork()
        if process == 0:
            build(recipe, folder, workers=1)
            os._exit(0)
        while os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            if count(place) >= more:
                break
            time.sleep(dice.uniform(0, 0.003))
        os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        kills += os.WIFSIGNALED(status)
        found = {
            path: path.stat().st_ino
            for path in place.rglob("*.*")
            if path.is_file()
            and path.name[0] != "."
            and path.name != "parts.json"  # written at each start
            and path.parent.name != "corpus"  # done once shards/NUMBER.json is there
            and not path.name.endswith((".exact.npy", ".bands.npy"))  # once the signatures are
        }
        if not folder.exists():
            again = [path for path, inode in done.items() if found.get(path, inode) != inode]
            assert not again, again
            assert done.keys() <= found.keys(), done.keys() - found.keys()
            kept += bool(done)
        done = found
    with suppress(UserError):  # it clears what is left, or says that the corpus is there
        build(recipe, folder, workers=1)
    assert not place.exists()
    print(json.dumps({"kills": kills, "kept": kept}))


def count(folder: Path) -> int:
    """How many files are below a folder, which may vanish meanwhile."""
    return sum(len(names) for _, _, names in os.walk(folder))


if __name__ == "__main__":
    main()
