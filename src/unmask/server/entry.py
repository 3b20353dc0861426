"""Who may come in, as far as the first lines of a request tell."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from unmask.server.errors import Refusal
from unmask.server.keys import Keys, is_loopback
from unmask.server.settings import Settings

OPEN = ("/health", "/", "/favicon.ico", "/page/", "/ping")  # without a key: they tell nothing
# All of whose work waits in the queue of a model.
QUEUED = ("/embed", "/v1/embeddings", "/predict", "/rerank", "/similarity")
_SCOPES = (("/metrics", "metrics"), ("/admin/", "admin"))


def is_open(method: str, path: str) -> bool:
    """Whether anybody may ask this: it has no body, and its answer is there at once."""
    return method in ("GET", "HEAD") and (path in OPEN or path.startswith("/page/"))


def admit(
    method: str, path: str, headers: Mapping[str, str], settings: Settings, keys: Keys
) -> None:
    """Raise a Refusal of what the headers, by names in small letters, say already."""
    _check_origin(headers, settings, keys)
    length = headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > settings.body_bytes:
        raise too_large(settings.body_bytes)
    if headers.get("content-encoding", "identity") != "identity":
        raise Refusal(415, "encoded", "a compressed body is not read; send it as it is")
    if is_open(method, path):
        return
    kind, _, key = headers.get("authorization", "").partition(" ")
    scopes = keys.scopes(key.strip() if kind.lower() == "bearer" else None)
    if scopes is None:
        raise Refusal(401, "no_key", "give a valid key: Authorization: Bearer KEY")
    needed = next((own for start, own in _SCOPES if path.startswith(start)), "predict")
    if needed not in scopes:
        raise Refusal(403, "not_allowed", f"this key is not for {needed}")


def too_large(most: int) -> Refusal:
    """413, for a body of more than `most` bytes."""
    return Refusal(413, "too_large", f"a body has at most {most} bytes; send less at once")


def _check_origin(headers: Mapping[str, str], settings: Settings, keys: Keys) -> None:
    """Refuse other sites' pages; and on loopback names that only pretend to be this machine."""
    host = headers.get("host", "")
    if not re.fullmatch(r"[A-Za-z0-9._\-\[\]:%]{0,255}", host):
        raise Refusal(400, "bad_host", "the Host header is no name of a machine")
    origin = headers.get("origin")
    if origin is not None and _host_of(origin) != host:
        raise Refusal(403, "other_site", "requests from pages of other sites are refused")
    bare = re.sub(r":\d*$", "", host)
    if is_loopback(settings.host) and not keys and host and not is_loopback(bare):
        raise Refusal(403, "other_host", f"this server is for this machine alone, not {bare}")


def _host_of(origin: str) -> str | None:
    """The host and port of an Origin header; None where it has none."""
    try:
        return urlsplit(origin).netloc or None
    except ValueError:
        return None
