"""Every path of the server, from the OpenAPI document that it gives out itself."""

from __future__ import annotations

from typing import Any

from reference.text import safe, table
from unmask.server.app import describe

HEAD = """# The HTTP interface

Made from the document that a server gives out at `/openapi.json`. [Serving](../serving.md) explains
it, with what is answered. An error is an object with `error`; on every path it may be:

"""


def make() -> str:
    """The page: a section a path and method, then the bodies."""
    document = describe()
    (first, *_) = next(iter(document["paths"].values())).values()
    common = {k: v["description"] for k, v in first["responses"].items() if int(k) >= 400}
    parts = [HEAD + "".join(f"- {status}: {safe(said)}\n" for status, said in common.items())]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parts.append(_operation(f"{method.upper()} {path}", operation, common))
    for name, schema in document["components"]["schemas"].items():
        parts.append(f"## {name}\n\n{safe(_joined(schema.get('description', '')))}\n")
        needed = schema.get("required", [])
        rows = [
            [f"`{key}`", _type(own), "needed" if key in needed else _value(own.get("default")),
             safe(own.get("description", ""))]
            for key, own in schema.get("properties", {}).items()
        ]  # fmt: skip
        if rows:
            parts.append(table(["key", "type", "default", "what it is"], rows))
    return "\n".join(parts)


def _operation(name: str, operation: dict[str, Any], common: dict[str, str]) -> str:
    about = operation.get("description")
    if not about:
        raise ValueError(f"{name} has no docstring")
    lines = [f"## {name}\n", safe(_joined(about)) + "\n"]
    for parameter in operation.get("parameters", []):
        lines.append(f"- `{parameter['name']}` ({parameter['in']}): {_type(parameter['schema'])}")
    body = operation.get("requestBody", {}).get("content", {})
    for kind, own in body.items():
        lines.append(f"- body, `{kind}`: {_type(own['schema'])}")
    for status, answer in operation["responses"].items():
        if common.get(status) == answer["description"]:
            continue
        shown = [_type(own["schema"]) for own in answer.get("content", {}).values()
                 if own.get("schema")]  # fmt: skip
        told = f" ({', '.join(shown)})" if shown else ""
        lines.append(f"- {status}: {safe(answer['description'])}{told}")
    return "\n".join(lines) + "\n"


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return f"[{name}](#{name.lower()})"
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " or ".join(dict.fromkeys(_type(one) for one in schema[key]))
    if "enum" in schema or "const" in schema:
        return " or ".join(f"`{v}`" for v in schema.get("enum", [schema.get("const")]))
    kind = schema.get("type", "anything")
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return {"string": "text", "null": "`null`", "boolean": "`true` or `false`"}.get(kind, kind)


def _value(default: object) -> str:
    return "" if default is None else f"`{default}`"


def _joined(text: str) -> str:
    return "\n\n".join(" ".join(p.split()) for p in text.split("\n\n"))
