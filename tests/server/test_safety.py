"""Keys and scopes, addresses, TLS, and what `unmask serve` refuses to do."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from unmask.errors import UserError
from unmask.server.body import parse
from unmask.server.errors import Refusal
from unmask.server.fleet import named
from unmask.server.guard import Guard
from unmask.server.keys import Keys, is_loopback, read_keys
from unmask.server.metrics import Metrics
from unmask.server.run import serve
from unmask.server.settings import Settings

TASK, OK = "/v1/tasks/mood", {"input": "a good film"}


def test_scopes(guarded: Any) -> None:
    routes = {"predict": ("POST", TASK), "metrics": ("GET", "/metrics"), "info": ("GET", "/info")}
    allowed = {"predict": ("predict", "info"), "metrics": ("metrics",), "admin": ()}
    with httpx.Client(base_url=guarded.url, timeout=60) as client:
        for scope, own in allowed.items():
            headers = {"authorization": f"Bearer {scope}-key-0123456789"}
            for name, (method, path) in routes.items():
                status = client.request(method, path, json=OK, headers=headers).status_code
                assert status == (200 if name in own else 403)
        for wrong in ("", "Bearer", "Bearer x", "Basic predict-key-0123456789", "Bearer \xff"):
            refused = client.post(TASK, json=OK, headers={"authorization": wrong.encode("latin-1")})
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"] == "Bearer"
        assert client.post("/admin/reload").status_code == 401
        assert client.get("/health").status_code == 200  # for probes, and it tells nothing
        assert client.get("/openapi.json").status_code == 401


def test_keys_are_read_strictly(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    good = "a-key-of-some-length"
    for text, said in {
        "": "holds no key",
        "short": "16 characters",
        f"{good} everything": "no scope",
        f"{good} predict admin": "no scope",
    }.items():
        path.write_text(text)
        path.chmod(0o600)
        with pytest.raises(UserError, match=said):
            read_keys(path)
    path.write_text(f"# all\n{good} predict,admin\n")
    keys = read_keys(path)
    assert keys.scopes(good) == {"predict", "admin"}
    assert keys.scopes(good + "x") is keys.scopes(None) is keys.scopes("") is None
    path.chmod(0o644)
    with pytest.raises(UserError, match="chmod 600"):
        read_keys(path)
    with pytest.raises(UserError, match="cannot be read"):
        read_keys(tmp_path / "none")
    assert not Keys({})


def test_a_bind_that_others_reach_needs_a_key(tmp_path: Path) -> None:
    assert [is_loopback(h) for h in ("127.0.0.1", "::1", "localhost", "127.9.9.9")] == [True] * 4
    for host in ("0.0.0.0", "::", "10.0.0.1", "example.org"):
        assert not is_loopback(host)
        with pytest.raises(UserError, match="--api-key-file"):
            serve(["x"], Settings(host=host))
    with pytest.raises(UserError, match="both"):
        serve(["x"], Settings(), certificate=tmp_path / "a")


def test_names_of_models() -> None:
    assert named(["runs/demo/bundle", "x=a/b", "c/d"]) == {
        "demo": "runs/demo/bundle",
        "x": "a/b",
        "d": "c/d",
    }
    for wrong, said in {
        ("a", "b/a"): "two models",
        (".. /",): "no name",
        (): "at least one",
    }.items():
        with pytest.raises(UserError, match=said):
            named(wrong)


def test_json_in_strings_is_not_counted() -> None:
    text = b'{"a": "' + b'[{\\"' * 500 + b'"}'
    assert parse(text, 3) == {"a": '[{"' * 500}
    with pytest.raises(Refusal, match="more than 3 levels deep"):
        parse(b"[[[[]]]]", 3)
    assert parse(b"[[[]]]", 3) == [[[]]]


def test_tls(bundle: Path, tmp_path: Path, start: Any) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1"],
        capture_output=True,
        check=False,
    )  # fmt: skip
    if made.returncode:
        pytest.skip("needs openssl to make a certificate")
    server = start([str(bundle)], "--workers", "1", "--tls-cert", str(cert), "--tls-key", str(key))
    trust = ssl.create_default_context(cafile=str(cert))
    found = httpx.post(server.url + TASK, json=OK, verify=trust, timeout=60)
    assert found.status_code == 200
    assert found.headers["strict-transport-security"]
    assert server.stop() == 0


def test_who_does_not_read_is_not_waited_for() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive() -> dict[str, Any]:
        if asked:
            await asyncio.Event().wait()
        asked.append(1)
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        await asyncio.Event().wait()

    asked: list[int] = []
    metrics = Metrics()
    guard = Guard(app, Settings(body_seconds=0.05), Keys({}), metrics, lambda: None)
    scope = {"type": "http", "method": "POST", "path": "/embed", "headers": []}
    asyncio.run(asyncio.wait_for(guard(scope, receive, send), 20))
    labels = {"model": "", "event": "left"}
    assert metrics.registry.get_sample_value("unmask_events_total", labels) == 1
    assert guard.active == 0
