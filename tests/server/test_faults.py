"""A worker killed, a bundle swapped, SIGTERM, all under load: every request's fate is known."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from unmask import save


class Load:
    """Threads that ask as fast as they are answered, each text once, and count what came back."""

    def __init__(self, url: str, threads: int = 4) -> None:
        self.url = url
        self.fates: Counter[Any] = Counter()
        self.models: set[str] = set()
        self.sent = 0
        self._on = True
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._ask, args=(i,), daemon=True) for i in range(threads)
        ]
        for one in self._threads:
            one.start()

    def _ask(self, number: int) -> None:
        with httpx.Client(base_url=self.url, timeout=250) as client:
            for i in range(1_000_000):
                if not self._on:
                    return
                with self._lock:
                    self.sent += 1
                try:
                    text = f"the film was {number} {i}"
                    response = client.post("/v1/tasks/mood", json={"input": text})
                except httpx.ConnectError:
                    fate: Any = "refused"
                    time.sleep(0.05)
                except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
                    # A connection that was kept, closed as the request was on its way.
                    fate = "closed"
                else:
                    fate = response.status_code
                    if fate == 200:
                        assert len(response.json()["results"]) == 1
                        with self._lock:
                            self.models.add(response.json()["sha256"])
                with self._lock:
                    self.fates[fate] += 1

    def stop(self) -> Counter[Any]:
        """End, when all have been answered."""
        self._on = False
        for one in self._threads:
            one.join()
        assert self.fates.total() == self.sent
        return self.fates


@pytest.mark.timeout(300)
def test_faults_under_load(bundle: Path, make_model: Any, tmp_path: Path, start: Any) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    server = start([f"tiny={copy}"], "--workers", "1", "--timeout", "200")
    load = Load(server.url)
    try:
        _strike(server, load, copy, make_model)
    finally:
        fates = load.stop()
    assert fates.keys() <= {200, "refused", "closed"}


def _strike(server: Any, load: Load, copy: Path, make_model: Any) -> None:
    """One fault after the other."""
    time.sleep(0.5)
    (worker,) = server.children()
    os.kill(worker, signal.SIGKILL)
    _until(lambda: server.children() not in ([], [worker]))
    # Another model under the same name, swapped while it is asked.
    save(make_model(seed=1), copy)
    os.kill(server.process.pid, signal.SIGHUP)
    _until(lambda: len(load.models) == 2)
    # One that is broken does not take its place.
    (copy / "model.safetensors").write_bytes(b"broken")
    said = httpx.post(f"{server.url}/admin/reload", timeout=250).json()
    assert "manifest" in said["tiny"]
    before = load.fates[200]
    _until(lambda: load.fates[200] > before)
    assert load.fates.keys() == {200}
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(200) == 0
    assert not Path(f"/proc/{worker}").exists()


def _until(holds: Any) -> None:
    for _ in range(2000):
        if holds():
            return
        time.sleep(0.1)
    raise AssertionError("it did not come to be")
