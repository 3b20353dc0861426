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
Result = dict[str, Any]  # how many `bytes` of the message's body are its answer, or an `error`


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
            own, body = self._vectors(told["texts"], told["width"])
            self._say({"id": number, **_since(began), "results": [[one] for one in own]}, body)
        else:
            results, body = self._answers(told["units"], told["options"])
            self._say({"id": number, **_since(began), "results": results}, body)

    def _answers(
        self, units: Sequence[Mapping[str, Any]], options: Mapping[str, Any]
    ) -> tuple[list[list[Result]], bytes]:
        """For each unit one result a task, and their records."""
        from unmask.jobs import unseen

        results: list[list[Any]] = [[None] * len(unit["tasks"]) for unit in units]
        records: list[bytes] = []
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
            found = [None] * len(jobs)
        for (i, k), job, one in zip(places, jobs, found, strict=True):
            # A number that is not finite spoils those that share its grid.
            results[i][k], record = one or self._alone(job, options)
            records.append(record)
        return results, b"".join(records)

    def _alone(self, job: Any, options: Mapping[str, Any]) -> tuple[Result, bytes]:
        try:
            (answer,) = self.model.answers_to([job], options)
        except Exception as error:
            return _wrong(error), b""
        return self._record(answer) or (_NOT_FINITE, b"")

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
        body = b""
        try:
            found = self._explained(told, Pace(told["positions"], pause)).model_dump()
        except _Cancelled:
            result = _CANCELLED
        except Exception as failure:
            result = _wrong(failure)
        else:
            try:
                body = json.dumps(found, allow_nan=False).encode()
                result = {"bytes": len(body)}
            except ValueError:
                result = _NOT_FINITE
        del self.explaining[number]
        self._say({"id": number, **_since(began + away), "result": result}, body)

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

    def _record(self, answer: Answer) -> tuple[Result, bytes] | None:
        """An answer's result and its record; None where a number of it is not finite."""
        columns = answer.columns()
        record = {"draw": answer.draw, "short": answer.short, "answer": columns}
        try:
            written = json.dumps(record, allow_nan=False).encode()
        except ValueError:
            return None
        # A kind that reads windows knows best what it cut; it says so in its answer.
        counts = {name: columns[name] for name in columns.keys() & {"tokens", "dropped"}}
        return {**counts, "bytes": len(written)}, written

    def _vectors(self, texts: Sequence[str], width: int | None) -> tuple[list[Result], bytes]:
        """For each text its result, and their vectors as raw float32."""
        import numpy as np

        size = width or self.model.encoder.config.hidden_size
        results: list[Result] = [{"bytes": 4 * size}] * len(texts)
        try:
            vectors = self.model.encode(texts, width=width).numpy()
        except Exception:
            vectors = np.full((len(texts), size), np.nan, dtype=np.float32)
        for i in np.flatnonzero(~np.isfinite(vectors).all(axis=1)).tolist():
            try:
                vectors[i] = self.model.encode(texts[i], width=width)[0].numpy()
            except Exception as error:
                results[i] = _wrong(error)
            else:
                if not np.isfinite(vectors[i]).all():
                    results[i] = _NOT_FINITE
        whole = ["bytes" in result for result in results]
        return results, np.ascontiguousarray(vectors[whole], dtype=np.float32).tobytes()

    def _advance(self, number: int) -> None:
        """One part more of a text that is being written."""
        try:
            self._say({"id": number, "part": next(self.writing[number])})
            return
        except StopIteration as end:
            result, record = self._record(end.value) or (_NOT_FINITE, b"")
            self._say({"id": number, "result": result}, record)
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


def _since(began: float) -> dict[str, float]:
    return {"seconds": time.perf_counter() - began}


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
