"""Answers that were given before, as many as fit into so many bytes."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

Value = TypeVar("Value")

_OVERHEAD = 900  # bytes of an entry beside its text or vector: key, objects, the dictionary's own


class Cache(Generic[Value]):
    """Least recently used goes first. Keys must say everything that an answer depends on."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.bytes = 0
        self._held: OrderedDict[bytes, tuple[Value, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def get(self, key: bytes) -> Value | None:
        """The value of this key, which becomes the newest; None where it is not held."""
        found = self._held.get(key)
        if found is None:
            return None
        self._held.move_to_end(key)
        return found[0]

    def put(self, key: bytes, value: Value, size: int) -> None:
        """Hold a value of so many bytes; one that is larger than a tenth of the room is not."""
        size += _OVERHEAD
        if size > self.most_bytes // 10:
            return
        self.forget(key)
        self._held[key] = (value, size)
        self.bytes += size
        while self.bytes > self.most_bytes:
            _, (_, freed) = self._held.popitem(last=False)
            self.bytes -= freed

    def forget(self, key: bytes) -> None:
        """Hold this key no longer."""
        if key in self._held:
            self.bytes -= self._held.pop(key)[1]
