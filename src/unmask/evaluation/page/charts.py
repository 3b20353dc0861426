"""Drawings as inline SVG; their colours come from the page's style."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

FEW = 10  # answers below which a bin says little
Words = Mapping[str, str]


def tag(name: str, *inside: str, **attributes: str | float) -> Markup:
    """An element; text and attributes are escaped. `text_anchor` stands for `text-anchor`."""
    said = "".join(
        f' {key.strip("_").replace("_", "-")}="{escape(_short(value))}"'
        for key, value in attributes.items()
    )
    return Markup(f"<{name}{said}>{Markup().join(inside)}</{name}>")


def _short(value: str | float) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)


def interval_bar(value: float, low: float | None, high: float | None) -> Markup:
    """A score from 0 to 1 as a dot, and its interval as a bar about it."""
    low, high = (value, value) if low is None or high is None else (low, high)
    x, start, end = (4 + 152 * min(max(v, 0.0), 1.0) for v in (value, low, high))
    return tag(
        "svg",
        tag("path", class_="track", d="M4 8H156"),
        tag("rect", class_="interval", x=start - 1, y=3, width=end - start + 2, height=10, rx=3),
        tag("circle", class_="dot", cx=x, cy=8, r=3.5),
        class_="bar",
        viewBox="0 0 160 16",
        width=160,
        height=16,
        aria_hidden="true",
    )


def spread(score: Mapping[str, Any], digits: int = 3) -> str:
    """The interval of a score, or its deviation over seeds; nothing where there is none."""
    if "sd" in score:
        return f"± {score['sd']:.3f}"
    if "low" not in score:
        return ""
    return f"{score['low']:.{digits}f} – {score['high']:.{digits}f}"


def score_bar(score: Mapping[str, Any]) -> Markup:
    """The bar of a score that has a value: its interval, or a deviation to both sides."""
    value = score["value"]
    if "sd" in score:
        return interval_bar(value, value - score["sd"], value + score["sd"])
    return interval_bar(value, score.get("low"), score.get("high"))


def heat_map(labels: Sequence[str], counts: Sequence[Sequence[int]], t: Words) -> Markup:
    """A confusion matrix (C, C): a row a truth, a column an answer, darker for a larger share."""
    C = len(labels)
    cell = 40 if C <= 12 else 24 if C <= 30 else 12
    names = [name if len(name) <= 30 else name[:29] + "…" for name in labels]
    headings = [f"{t['answer']} →", f"{t['truth']} ↓"]  # stand in the corner
    side = 14 + max(_width(name) for name in [*names, *headings])  # room, left and above
    end = side + C * cell
    parts: list[str] = [
        tag("text", heading, class_="axis", x=4, y=14 + 16 * line)
        for line, heading in enumerate(headings)
    ]
    for i in range(0, C + 1, 5 if C > 12 else 1):
        at: float = side + i * cell
        parts.append(tag("path", class_="grid", d=f"M{at} {side}V{end}M{side} {at}H{end}"))
    for i, name in enumerate(names):
        at = side + (i + 0.5) * cell + 4
        upright = f"translate({at} {side - 6}) rotate(-90)"
        parts.append(tag("text", name, x=side - 6, y=at, text_anchor="end"))
        parts.append(tag("text", name, transform=upright))
    for i, row in enumerate(counts):
        for j, count in enumerate(row):
            if count:
                x, y, share = side + j * cell, side + i * cell, count / sum(row)
                said = (
                    f"{t['truth']}: {labels[i]}\n{t['answer']}: {labels[j]}\n"
                    f"{count} / {sum(row)} ({share:.0%})"
                )
                parts.append(_cell(x, y, cell, count, share, i == j, said))
    size = f"{end + 10}"
    return tag(
        "svg",
        *parts,
        class_="heat",
        viewBox=f"0 0 {size} {size}",
        width=size,
        height=size,
        role="img",
        aria_label=t["confusion"],
    )


def risk_curve(points: Sequence[Mapping[str, Any]], t: Words) -> Markup:
    """The share of errors among the answers given, by the share of answers that are given."""
    left, top, wide, tall = 52, 10, 300, 160
    bottom = top + tall
    most = max([one["risk"] for one in points] + [0.01])
    parts: list[str] = []
    for v in (0, 0.25, 0.5, 0.75, 1):
        x, y = left + wide * v, bottom - tall * v
        parts += [
            tag("path", class_="grid", d=f"M{left} {y}H{left + wide}"),
            tag("text", f"{v * most:.3f}", x=left - 6, y=y + 4, text_anchor="end"),
            tag("text", f"{v:g}", x=x, y=bottom + 16, text_anchor="middle"),
        ]
    places = [(left + wide * p["answered"], bottom - tall * p["risk"] / most) for p in points]
    parts.append(
        tag("path", class_="diagonal", d="M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places))
    )
    for one, (x, y) in zip(points, places, strict=True):
        said = f"{t['answered']} {one['answered']:.2f}; {t['errors']} {one['risk']:.4f}"
        parts.append(tag("g", tag("title", said), tag("circle", class_="dot", cx=x, cy=y, r=3.5)))
    parts += [
        tag("text", t["answered"], x=left + wide / 2, y=bottom + 34, text_anchor="middle"),
        tag("text", t["errors"], transform=f"translate(10 {top + tall / 2}) rotate(-90)",
            text_anchor="middle"),
    ]  # fmt: skip
    return tag(
        "svg",
        *parts,
        class_="reliability",
        viewBox=f"0 0 368 {bottom + 42}",
        role="img",
        aria_label=t["selective"],
    )


def _cell(
    x: float, y: float, size: int, count: int, share: float, right: bool, said: str
) -> Markup:
    square = tag(
        "rect",
        class_="right" if right else "wrong",
        x=x + 0.5,
        y=y + 0.5,
        width=size - 1,
        height=size - 1,
        fill_opacity=f"{0.15 + 0.45 * share:.2f}",
    )
    number = tag("text", str(count), class_="count", x=x + size / 2, y=y + size / 2 + 4)
    return tag("g", tag("title", said), square, number if size > 15 else Markup())


def _width(text: str) -> int:
    """About how many units of the drawing a label takes; Chinese is wide."""
    return round(sum(12 if unicodedata.east_asian_width(c) in "WF" else 6.6 for c in text))


def reliability_diagram(bins: Sequence[Mapping[str, Any]], t: Words) -> Markup:
    """Accuracy by confidence, each bin a bar against the diagonal; below, the answers of each."""
    left, top, side, low = 44, 10, 300, 60  # low: the height of the histogram
    right, bottom = left + side, top + side
    base = bottom + 34 + low
    most = max(one["rows"] for one in bins)
    parts: list[str] = []
    for v in (0, 0.25, 0.5, 0.75, 1):
        x, y = left + side * v, bottom - side * v
        parts += [
            tag("path", class_="grid", d=f"M{left} {y}H{right}"),
            tag("text", f"{v:g}", x=left - 6, y=y + 4, text_anchor="end"),
            tag("text", f"{v:g}", x=x, y=base + 16, text_anchor="middle"),
        ]
    for one in bins:
        if not one["rows"]:
            continue
        a, width = left + side * one["from"] + 1, side * (one["to"] - one["from"]) - 2
        y, tall = bottom - side * one["accuracy"], max(low * one["rows"] / most, 1.0)
        said = (
            f"{one['from']:.2f}–{one['to']:.2f}: {one['rows']}; "
            f"{t['confidence']} {one['confidence']:.3f}; {t['accuracy']} {one['accuracy']:.3f}"
        )
        few = " few" if one["rows"] < FEW else ""
        bar = tag("rect", class_=f"right{few}", x=a, y=y, width=width, height=bottom - y)
        mass = tag("rect", class_="mass", x=a, y=base - tall, width=width, height=tall)
        dot = tag("circle", class_="dot", cx=left + side * one["confidence"], cy=y, r=3.5)
        parts.append(tag("g", tag("title", said), bar, mass, dot))
    beside = f"translate(10 {top + side / 2}) rotate(-90)"
    parts += [
        tag("path", class_="diagonal", d=f"M{left} {bottom}L{right} {top}"),
        tag("path", class_="grid", d=f"M{left} {base}H{right}"),
        tag("text", t["confidence"], x=left + side / 2, y=base + 34, text_anchor="middle"),
        tag("text", t["accuracy"], transform=beside, text_anchor="middle"),
        tag("text", str(most), x=left - 6, y=base - low + 8, text_anchor="end"),
    ]
    return tag(
        "svg",
        *parts,
        class_="reliability",
        viewBox=f"0 0 360 {base + 42}",
        role="img",
        aria_label=t["calibration"],
    )
