"""A worker: a process with a model, told what to compute over a socket.

It ends when the other side of the socket does, so no worker outlives its server.
"""

from __future__ import annotations

import hashlib
import json
import logging
import select
import signal
import socket
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unmask.errors import UserError
from unmask.server.wire import pack, receive_now

if TYPE_CHECKING:
    from pydantic import BaseModel

    from unmask.explain.game import Pace
    from unmask.model import Model
    from unmask.tasks import Answer

log = logging.getLogger("unmask")

Error = dict[str, Any]


class Worker:
    """One model's computing, a batch at a time; texts that are being written advance in between."""

    def __init__(self, connection: socket.socket, model: Model) -> None:
        self.connection = connection
        self.model = model
        self.writing: dict[int, Generator[str, None, Answer]] = {}
        self.explaining: dict[int, bool] = {}  # whether anybody still waits for it

    def run(self) -> None:
        """Serve until the other side ends."""
        with suppress(_Over):
            while True:
                self._turn(wait=not self.writing)

    def _turn(self, wait: bool) -> None:
        """One message, where one is there or is waited for; then all that is written advances."""
        if wait or select.select([self.connection], [], [], 0)[0]:
            message = receive_now(self.connection)
            if message is None:
                raise _Over
            self._heed(message[0])
        for number in list(self.writing):
            self._advance(number)

    def _heed(self, told: Mapping[str, Any]) -> None:
        number = told["id"]
        began = time.perf_counter()
        if told["do"] == "cancel":
            self.writing.pop(number, None)
            if number in self.explaining:
                self.explaining[number] = False
        elif told["do"] == "explain":
            self._explain(told)
        elif told["do"] == "write":
            parts = self.model.write(told["task"], _row(told["row"]), **told["options"])
            self.writing[number] = parts
        elif told["do"] == "encode":
            vectors, errors = self._vectors(told["texts"], told["width"])
            seconds = time.perf_counter() - began
            self._say({"id": number, "seconds": seconds, "results": errors}, vectors)
        else:
            results = self._answers(told["units"], told["options"])
            seconds = time.perf_counter() - began
            self._say({"id": number, "seconds": seconds, "results": results})

    def _answers(
        self, units: Sequence[Mapping[str, Any]], options: Mapping[str, Any]
    ) -> list[list[Any]]:
        """For each unit one result a task: a record, or what was wrong with it alone."""
        from unmask.jobs import unseen

        results: list[list[Any]] = [[None] * len(unit["tasks"]) for unit in units]
        places, jobs = [], []
        for i, unit in enumerate(units):
            for k, name in enumerate(unit["tasks"]):
                task = self.model.task(name)
                try:
                    jobs.append((task, unseen(task, _row(unit["row"]), 0)))
                    places.append((i, k))
                except Exception as error:  # a decoder can raise nearly anything
                    results[i][k] = _wrong(error)
        try:
            found = [self._record(answer) for answer in self.model.answers_to(jobs, options)]
        except Exception:  # one of them, perhaps: each by itself then
            found = [_NOT_FINITE] * len(jobs)
        for (i, k), job, record in zip(places, jobs, found, strict=True):
            # A number that is not finite spoils those that share its grid.
            results[i][k] = self._alone(job, options) if record is _NOT_FINITE else record
        return results

    def _alone(self, job: Any, options: Mapping[str, Any]) -> dict[str, Any]:
        try:
            (answer,) = self.model.answers_to([job], options)
        except Exception as error:
            return _wrong(error)
        return self._record(answer)

    def _explain(self, told: Mapping[str, Any]) -> None:
        """An explanation, as JSON behind its header. Between its passes others have their turn."""
        from unmask.explain.game import Pace

        number, began = told["id"], time.perf_counter()
        away = 0.0  # seconds that others had

        def pause() -> None:
            nonlocal away
            since = time.perf_counter()
            self._turn(wait=False)
            away += time.perf_counter() - since
            if not self.explaining[number]:
                raise _Cancelled

        self.explaining[number] = True
        body, error = b"", None
        try:
            found = self._explained(told, Pace(told["positions"], pause)).model_dump()
        except _Cancelled:
            error = _CANCELLED
        except Exception as failure:
            error = _wrong(failure)
        else:
            try:
                body = json.dumps(found, allow_nan=False).encode()
            except ValueError:
                error = _NOT_FINITE
        del self.explaining[number]
        seconds = time.perf_counter() - began - away
        self._say({"id": number, "seconds": seconds, "result": error}, body)

    def _explained(self, told: Mapping[str, Any], pace: Pace) -> BaseModel:
        from unmask.explain.explain import attention_at, explain

        task, row, why = told["task"], _row(told["row"]), told["why"]
        if "layer" in why:
            return attention_at(self.model, task, row, why["layer"], pace)
        return explain(
            self.model, task, row,
            answer=why["answer"], methods=[why["method"]], by=why["by"], check=why["check"],
            pace=pace,
        )  # fmt: skip

    def _record(self, answer: Answer) -> dict[str, Any]:
        record = {"draw": answer.draw, "short": answer.short, "answer": answer.columns()}
        try:
            json.dumps(record, allow_nan=False)
        except ValueError:
            return _NOT_FINITE
        return record

    def _vectors(self, texts: Sequence[str], width: int | None) -> tuple[bytes, list[Any]]:
        """Vectors as raw float32, and for each text None or what was wrong with it."""
        import numpy as np

        size = width or self.model.encoder.config.hidden_size
        errors: list[Any] = [None] * len(texts)
        try:
            vectors = self.model.encode(texts, width=width).numpy()
        except Exception:
            vectors = np.full((len(texts), size), np.nan, dtype=np.float32)
        for i in np.flatnonzero(~np.isfinite(vectors).all(axis=1)).tolist():
            try:
                vectors[i] = self.model.encode(texts[i], width=width)[0].numpy()
            except Exception as error:
                errors[i] = _wrong(error)
            else:
                errors[i] = None if np.isfinite(vectors[i]).all() else _NOT_FINITE
        return np.ascontiguousarray(vectors, dtype=np.float32).tobytes(), errors

    def _advance(self, number: int) -> None:
        """One part more of a text that is being written."""
        try:
            self._say({"id": number, "part": next(self.writing[number])})
            return
        except StopIteration as end:
            self._say({"id": number, "result": self._record(end.value)})
        except Exception as error:
            self._say({"id": number, "result": _wrong(error)})
        del self.writing[number]

    def _say(self, header: dict[str, Any], body: bytes = b"") -> None:
        self.connection.sendall(pack(header, body))


class _Over(BaseException):
    """The other side has ended: whatever is under way ends too."""


class _Cancelled(BaseException):
    """Nobody waits for this explanation any more."""


_CANCELLED: Error = {"error": {"code": "cancelled", "message": "nobody waits for it any more"}}
_NOT_FINITE: Error = {
    "error": {"code": "not_finite", "message": "the model's answer is not a finite number: refused"}
}


def _wrong(error: Exception) -> Error:
    """A user's mistake in its own words; anything else by its class alone, without the text."""
    if isinstance(error, UserError):
        return {"error": {"code": "bad_input", "message": str(error)}}
    log.error("a worker's model failed: %s", type(error).__name__)
    return {
        "error": {"code": "model_failed", "message": f"the model failed: {type(error).__name__}"}
    }


def _row(row: Any) -> Any:
    return tuple(row) if isinstance(row, list) else row


def hello(model: Model, path: Path) -> dict[str, Any]:
    """All that the server needs to know of a model, as plain data."""
    from unmask import bundle, files
    from unmask.bundle import MANIFEST

    scores, card = [], ""
    if bundle.is_bundle(path):
        digest = files.sha256(path / MANIFEST)
        if (path / "scores.json").is_file():
            scores = files.read_json(path / "scores.json")
        if (path / "README.md").is_file():
            card = (path / "README.md").read_text(encoding="utf-8")
    else:
        hashes = [files.sha256(file) for file in sorted(path.iterdir()) if file.is_file()]
        digest = hashlib.sha256("".join(hashes).encode()).hexdigest()
    return {
        "tokenizer": model.text.tokenizer.to_str(),
        "max_length": model.text.max_length,
        "tasks": model.task_records(),
        "pooling": model.how_to_pool.model_dump(),
        "encoder": model.encoder.config.model_dump(),
        "device": model.device.type,
        "precision": model.computes_in,
        "form": model.form_name,
        "sha256": digest,
        "scores": scores,
        "card": card,
    }


def main() -> None:
    """`python -m unmask.server.worker FD`: load what the first message names, and serve."""
    # Whoever stops the server lets it drain; a worker ends when its socket does.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    logging.basicConfig(level=logging.ERROR, format="%(message)s", stream=sys.stderr)
    connection = socket.socket(fileno=int(sys.argv[1]))
    connection.setblocking(True)
    first = receive_now(connection)
    if first is None:
        return
    from unmask.interop import resolve
    from unmask.runtime.stored import load

    try:
        path = resolve(first[0]["source"])
        model = load(path)
        model.text.refuse_files()  # nobody's request names a file of this machine
        said = hello(model, path)
        model.encode("a")  # what is slow only once
    except UserError as error:
        connection.sendall(pack({"failed": str(error)}))
        return
    connection.sendall(pack(said))
    del said
    try:
        Worker(connection, model).run()
    except (BrokenPipeError, ConnectionResetError):
        return


if __name__ == "__main__":
    main()
