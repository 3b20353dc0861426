"""`make audit` fails of a known vulnerability, passes without, and says when it cannot look."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

AUDIT = Path(__file__).parent.parent / ".ci" / "audit"
pytestmark = pytest.mark.skipif(
    not (AUDIT.parent.parent / ".venv/bin/pip-audit").exists(),
    reason="not a checkout with .venv",
)


@contextmanager
def database(vulnerable: str, status: int = 200) -> Iterator[str]:
    """The address of a database on loopback that knows of one vulnerable package."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            name = asked["package"]["name"]
            found: dict[str, Any] = {}
            if name == vulnerable:
                events = [{"introduced": "0"}, {"fixed": "99"}]
                affected = {
                    "package": {"name": name, "ecosystem": "PyPI"},
                    "ranges": [{"type": "ECOSYSTEM", "events": events}],
                }
                found = {"vulns": [{"id": "TEST-1", "summary": "bad", "affected": [affected]}]}
            body = json.dumps(found).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/query"
    finally:
        server.shutdown()
        server.server_close()


def audit(address: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PIP_AUDIT_OSV_URL": address}
    return subprocess.run([AUDIT], env=env, capture_output=True, text=True, timeout=120)


def test_a_known_vulnerability_fails() -> None:
    with database("jinja2") as address:
        done = audit(address)
    assert done.returncode == 1
    assert "jinja2" in done.stdout
    assert "TEST-1" in done.stdout


def test_no_known_vulnerability_passes() -> None:
    with database("no such package") as address:
        done = audit(address)
    assert done.returncode == 0
    assert "No known vulnerabilities found" in done.stdout


def test_a_database_out_of_order_fails() -> None:
    with database("no such package", status=500) as address:
        assert audit(address).returncode == 1


def test_a_database_out_of_reach_is_said() -> None:
    with database("no such package") as address:
        pass  # and now nobody listens there
    done = audit(address)
    assert done.returncode == 0
    assert "NOT AUDITED" in done.stdout
