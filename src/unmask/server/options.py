"""What a stranger may ask of a task: options that cannot make a worker run out of memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unmask.errors import UserError
from unmask.server.errors import bad_input
from unmask.tasks import Generate, Task

_MOST = {"top": 100, "beams": 16, "longest": 1024, "rounds": 64, "lengths": 16, "no_repeat": 64}
_MOST |= {"beam": 32}
_KNOWN = {"mlm": ("top", "jointly"), "span": ("top",), "transcribe": ("beam",)}
_TEXTS = 64  # that may be banned


def check_options(task: Task[Any, Any], options: Mapping[str, Any]) -> None:
    """Refuse options that the task does not have, or beyond what a server gives."""
    for key, value in options.items():
        if isinstance(value, int) and not 0 <= value <= _MOST.get(key, 1 << 31):
            raise bad_input(f"option {key}: from 0 to {_MOST.get(key, 1 << 31)}, not {value}")
        if isinstance(value, list) and len(value) > _TEXTS:
            raise bad_input(f"option {key}: at most {_TEXTS} texts")
    if isinstance(task, Generate):
        try:
            decode = task.decoding(options)
        except UserError as error:
            raise bad_input(str(error)) from None
        if decode.top > _MOST["beams"]:
            raise bad_input(f"option top: at most {_MOST['beams']} texts are written")
        return
    known = _KNOWN.get(task.kind, ())
    for key, value in options.items():
        if key not in known:
            said = f"its options are {', '.join(known)}" if known else "it has none"
            raise bad_input(f"task {task.name}: there is no option {key!r:.80}; {said}")
        right = isinstance(value, bool) if key == "jointly" else _is_count(value)
        if not right:
            raise bad_input(f"task {task.name}: option {key} cannot be {value!r:.80}")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
