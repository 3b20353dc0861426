"""Who may do what: keys with scopes, read from a file."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Mapping
from pathlib import Path

from unmask.errors import UserError

SCOPES = ("predict", "metrics", "admin")


class Keys:
    """Keys as hashes, each with its scopes. Without keys everybody may do everything."""

    def __init__(self, scopes: Mapping[str, frozenset[str]]) -> None:
        self._hashes = {_hash(key): own for key, own in scopes.items()}

    def __bool__(self) -> bool:
        return bool(self._hashes)

    def scopes(self, key: str | None) -> frozenset[str] | None:
        """What a key allows; None where it is unknown. It takes the same time for any key."""
        if not self._hashes:
            return frozenset(SCOPES)
        given, found = _hash(key or ""), None
        for known, own in self._hashes.items():
            if hmac.compare_digest(known, given):
                found = own
        return found if key else None


def read_keys(path: Path) -> Keys:
    """A file with a key a line, and behind it its scopes, such as `predict,metrics`.

    A key alone may predict. Empty lines and those that begin with # say nothing.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}); give a file of keys") from None
    if path.stat().st_mode & 0o004:
        raise UserError(f"{path} can be read by everybody: chmod 600 it")
    found: dict[str, frozenset[str]] = {}
    for number, line in enumerate(lines, 1):
        parts = line.split()
        if not parts or parts[0].startswith("#"):
            continue
        key, scopes = parts[0], (parts[1] if len(parts) > 1 else "predict").split(",")
        wrong = [scope for scope in scopes if scope not in SCOPES]
        if wrong or len(parts) > 2:
            said = wrong[0] if wrong else parts[2]
            raise UserError(
                f"{path}, line {number}: {said!r} is no scope; write KEY {','.join(SCOPES)}"
            )
        if len(key) < 16:
            raise UserError(f"{path}, line {number}: a key has 16 characters at least")
        found[key] = frozenset(scopes)
    if not found:
        raise UserError(f"{path} holds no key; write one a line")
    return Keys(found)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
