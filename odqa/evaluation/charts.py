"""Small charts as inline SVG; colours come from the page's CSS variables, so they follow it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 460, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 14, 14, 42


@dataclass(frozen=True, slots=True)
class Series:
    """A named line through (x, y) points; ``dots`` marks the points themselves."""

    name: str
    points: Sequence[tuple[float, float]]
    dots: bool = True


@dataclass(frozen=True, slots=True)
class Axis:
    """What is shown along an axis, from ``low`` to ``high``, with its ticks."""

    label: str
    ticks: Sequence[float]
    low: float = 0.0
    high: float = 1.0
    log: bool = False

    def place(self, value: float) -> float:
        """Where ``value`` lies on the axis, from 0 to 1."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def line_chart(
    title: str, series: Sequence[Series], x: Axis, y: Axis, *, diagonal: bool = False
) -> str:
    """Lines over two axes, with a legend where there is more than one.

    ``diagonal`` draws y = x, where the ideal lies in a reliability diagram.
    """
    parts = [_grid(x, y)]
    if diagonal:
        parts.append(_path([(x.low, y.low), (x.high, y.high)], x, y, "ideal"))
    for i, line in enumerate(series):
        parts.append(_path(line.points, x, y, f"line s{i}"))
        if line.dots:
            parts += [_dot(point, line.name, x, y, i) for point in line.points]
    if len(series) > 1:
        parts.append(_legend([line.name for line in series]))
    return _svg(title, "".join(parts))


def bar_chart(title: str, bars: Sequence[tuple[str, float, str]]) -> str:
    """Horizontal bars of (name, value, text shown at its end), the longest as wide as can be."""
    row, label = 30, 110
    highest = max((value for _, value, _ in bars), default=0.0) or 1.0
    width = _WIDTH - label - 120
    parts = []
    for i, (name, value, text) in enumerate(bars):
        top, length = i * row + 6, max(2.0, width * value / highest)
        parts.append(
            f'<text class="tick" x="{label - 8}" y="{top + 14}" text-anchor="end">{escape(name)}'
            f'</text><rect class="bar" x="{label}" y="{top}" width="{length:.1f}" height="18" '
            f'rx="3"/><text class="value" x="{label + length + 6:.1f}" y="{top + 14}">'
            f"{escape(text)}</text>"
        )
    return _svg(title, "".join(parts), height=len(bars) * row + 8)


def _svg(title: str, body: str, *, height: int = _HEIGHT) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(title)}">{body}</svg>'
    )


def _xy(point: tuple[float, float], x: Axis, y: Axis) -> tuple[float, float]:
    return (
        _LEFT + x.place(point[0]) * (_WIDTH - _LEFT - _RIGHT),
        _HEIGHT - _BOTTOM - y.place(point[1]) * (_HEIGHT - _TOP - _BOTTOM),
    )


def _grid(x: Axis, y: Axis) -> str:
    parts = []
    for tick in y.ticks:
        _, top = _xy((x.low, tick), x, y)
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" '
            f'y1="{top:.1f}" y2="{top:.1f}"/>'
            f'<text class="tick" x="{_LEFT - 6}" y="{top + 4:.1f}" '
            f'text-anchor="end">{tick:g}</text>'
        )
    for tick in x.ticks:
        left, _ = _xy((tick, y.low), x, y)
        parts.append(
            f'<text class="tick" x="{left:.1f}" y="{_HEIGHT - _BOTTOM + 16}" '
            f'text-anchor="middle">{tick:g}</text>'
        )
    middle = (_TOP + _HEIGHT - _BOTTOM) / 2
    parts.append(
        f'<text class="label" x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 6}" '
        f'text-anchor="middle">{escape(x.label)}</text>'
        f'<text class="label" transform="translate(12 {middle}) rotate(-90)" '
        f'text-anchor="middle">{escape(y.label)}</text>'
    )
    return "".join(parts)


def _path(points: Sequence[tuple[float, float]], x: Axis, y: Axis, kind: str) -> str:
    places = " ".join("{:.1f},{:.1f}".format(*_xy(point, x, y)) for point in points)
    return f'<polyline class="{kind}" points="{places}"/>'


def _dot(point: tuple[float, float], name: str, x: Axis, y: Axis, i: int) -> str:
    left, top = _xy(point, x, y)
    said = f"{name}: {x.label} {point[0]:g}, {y.label} {point[1]:.3f}"
    return (
        f'<circle class="dot s{i}" cx="{left:.1f}" cy="{top:.1f}" r="{5 - i}">'
        f"<title>{escape(said)}</title></circle>"
    )


def _legend(names: Sequence[str]) -> str:
    """Names in the lower right corner of the plot, where rising curves leave room."""
    base = _HEIGHT - _BOTTOM - 14 - 18 * (len(names) - 1)
    return "".join(
        f'<line class="line s{i}" x1="{_WIDTH - 190}" x2="{_WIDTH - 168}" y1="{base + 18 * i - 4}" '
        f'y2="{base + 18 * i - 4}"/>'
        f'<text class="value" x="{_WIDTH - 160}" y="{base + 18 * i}">{escape(name)}</text>'
        for i, name in enumerate(names)
    )
