"""Charts as SVG: real text, the page's own colours in light and dark, the same bytes each time."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from datetime import timedelta
from html import escape
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from reports.document import Bars, Chart, Lines, Series, Timeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

# matplotlib knows no CSS: it is given a colour that stands for each of the page's own.
_COLOURS = {
    "ink": "#010203",
    "faint": "#040506",
    "good": "#070809",
    "bad": "#0a0b0c",
    "warn": "#0d0e0f",
    "plain": "#101112",
    "other": "#131415",
}
_OF_STATE = {
    "completed": "good",
    "failed": "bad",
    "crashed": "bad",
    "unknown_outcome": "bad",
    "needs_decision": "bad",
    "cancelled": "warn",
    "suspended": "warn",
    "waiting": "warn",
    "skipped": "faint",
    "running": "plain",
}
_HATCHES = {"bad": "//", "warn": "..", "other": "xx"}
"""So that nobody has to tell colours apart."""
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "smartops",
    "font.size": 9,
    "text.color": _COLOURS["ink"],
    "axes.labelcolor": _COLOURS["ink"],
    "axes.edgecolor": _COLOURS["faint"],
    "xtick.color": _COLOURS["ink"],
    "ytick.color": _COLOURS["ink"],
    "grid.color": _COLOURS["faint"],
    "grid.linewidth": 0.5,
    "hatch.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "text.parse_math": False,
}
_WIDTH = 7.2
_DAY_S = 86_400
_MOST_LABELS = 16
_LONGEST_LABEL = 34
_MOST_CHARACTERS = 90
"""How much text fits below a chart."""


def svg(chart: Chart, zone: str) -> str:
    """Return a chart as an SVG element with a title and a description. Needs matplotlib."""
    import matplotlib as mpl  # noqa: PLC0415 - takes most of a second
    from matplotlib.figure import Figure  # noqa: PLC0415

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, _height(chart)), layout="constrained")
        axes = figure.add_subplot()
        if isinstance(chart, Timeline):
            _timeline(axes, chart, zone)
        elif isinstance(chart, Bars):
            _bars(axes, chart)
        else:
            _lines(axes, chart)
        return _element(figure, chart)


def _height(chart: Chart) -> float:
    if isinstance(chart, Timeline):
        return 0.8 + 0.24 * len({span.row for span in chart.spans})
    if isinstance(chart, Bars) and chart.lying:
        return 0.8 + 0.26 * len(chart.labels)
    return 2.5


def _element(figure: Figure, chart: Chart) -> str:
    """Return the drawing as one element that may stand in a page beside others."""
    file = io.StringIO()
    about = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(file, format="svg", transparent=True, metadata=about)
    text = file.getvalue()
    text = text[text.index("<svg") :]
    for name, colour in _COLOURS.items():
        text = text.replace(colour, f"var(--{name})")
    own = re.sub(r"[^a-z0-9]+", "-", chart.name.lower())
    text = re.sub(r'\bid="', f'id="{own}-', text)
    text = re.sub(r'(href="#|url\(#)', rf"\1{own}-", text)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"font: ([\d.]+)px [^;\"]+", r"font-size: \1px", text)
    head, _, rest = text.partition(">")
    head = re.sub(r' (width|height)="[^"]*"', "", head)
    names = f'role="img" aria-labelledby="{own}-title {own}-desc"'
    title = f'<title id="{own}-title">{escape(chart.title)}</title>'
    desc = f'<desc id="{own}-desc">{escape(chart.says)}</desc>'
    return f"{head} {names}>{title}{desc}{rest}".strip()


def _bars(axes: Axes, chart: Bars) -> None:
    places = list(range(len(chart.labels)))
    below = [0.0] * len(places)
    for series in chart.series:
        values = [value or 0.0 for value in series.values]
        style = _filled(series.colour, series.title)
        if chart.lying:
            axes.barh(places, values, left=below, height=0.7, **style)
        else:
            axes.bar(places, values, bottom=below, width=0.8, **style)
        below = [a + b for a, b in zip(below, values, strict=True)]
    if not any(below):
        (axes.set_xlim if chart.lying else axes.set_ylim)(0, 1)
    if chart.lying:
        axes.set_yticks(places, [_short(label) for label in chart.labels])
        axes.invert_yaxis()
        axes.grid(axis="x")
        axes.set_xlabel(chart.unit)
        _whole_numbers(axes.xaxis, chart)
    else:
        _label(axes, chart.labels)
        axes.set_ylabel(chart.unit)
        _whole_numbers(axes.yaxis, chart)
    _legend(axes, chart.series)


def _whole_numbers(axis: Axis, chart: Bars) -> None:
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415

    values = [value or 0.0 for series in chart.series for value in series.values]
    if all(value == int(value) for value in values):
        axis.set_major_locator(MaxNLocator(integer=True))


def _filled(colour: str, title: str = "") -> dict[str, Any]:
    return {
        "color": _COLOURS[colour],
        "edgecolor": _COLOURS["ink"] if colour in _HATCHES else _COLOURS[colour],
        "linewidth": 0.4,
        "hatch": _HATCHES.get(colour),
        "label": title,
    }


def _lines(axes: Axes, chart: Lines) -> None:
    for series, dash in zip(chart.series, ("-", "--", ":", "-.") * 4, strict=False):
        values = [float("nan") if value is None else value for value in series.values]
        axes.plot(
            range(len(values)),
            values,
            dash,
            color=_COLOURS[series.colour],
            label=series.title,
            marker="o" if len(values) < 40 else None,
            markersize=3,
            linewidth=1.6,
        )
    if chart.limit is not None:
        axes.axhline(chart.limit, color=_COLOURS["warn"], linewidth=1.2, linestyle=(0, (4, 2)))
    _label(axes, chart.labels)
    axes.set_ylabel(chart.unit)
    _legend(axes, chart.series)


def _label(axes: Axes, labels: Sequence[str]) -> None:
    every = max(1, -(-len(labels) // _MOST_LABELS))
    shown = [_short(label) for label in labels[::every]]
    axes.set_xticks(range(0, len(labels), every), shown)
    if len("  ".join(shown)) > _MOST_CHARACTERS:
        axes.tick_params(axis="x", labelrotation=45)
    axes.set_xlim(-0.6, len(labels) - 0.4)
    axes.grid(axis="y")


def _legend(axes: Axes, series: Sequence[Series]) -> None:
    if len(series) > 1:
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=min(len(series), 4))


def _timeline(axes: Axes, chart: Timeline, zone: str) -> None:
    rows = list(dict.fromkeys(span.row for span in chart.spans))
    for span in chart.spans:
        place = rows.index(span.row)
        style = _filled(_OF_STATE.get(span.state, "plain"))
        axes.barh(
            place, max(span.end_s - span.start_s, 0.0), left=span.start_s, height=0.6, **style
        )
        if span.text:
            axes.annotate(
                span.text, (span.end_s, place), (4, 0), textcoords="offset points", va="center"
            )
    longest = max((span.end_s for span in chart.spans), default=1.0) or 1.0
    axes.set_xlim(0, longest * 1.15)
    axes.set_yticks(range(len(rows)), [_short(row) for row in rows])
    axes.invert_yaxis()
    ticks = [longest * step / 5 for step in range(6)]
    form = "%H:%M:%S" if longest > 30 else "%H:%M:%S.%f"
    cut = None if longest > 30 else -4
    if longest > _DAY_S:
        form = "%d %b %H:%M"
    moments = [chart.start + timedelta(seconds=tick) for tick in ticks]
    own = ZoneInfo(zone)
    axes.set_xticks(ticks, [moment.astimezone(own).strftime(form)[:cut] for moment in moments])
    axes.grid(axis="x")


def _short(label: str) -> str:
    return label if len(label) <= _LONGEST_LABEL else f"{label[: _LONGEST_LABEL - 1]}…"
