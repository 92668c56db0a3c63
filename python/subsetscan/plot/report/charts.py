"""The charts, as specifications of Vega-Lite; their data come from the page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

__all__ = ["charts"]

_SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"  # a name: nothing is fetched
_LEGEND = {"orient": "top", "labelLimit": 300, "columns": {"expr": "max(1, floor(width / 320))"}}
_COLOUR = {"field": "set", "type": "nominal", "title": None, "legend": _LEGEND}


def charts(
    *, with_band: bool, with_roc: bool, spaces: Sequence[str], inputs: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Return the charts by the name of their place on the page.

    Parameters
    ----------
    with_band : bool
        Whether it is known between which shares of clean inputs should be flagged.
    with_roc : bool
        Whether there are clean inputs and others.
    spaces, inputs : sequence of str
        The columns and rows of the map of layers.
    """
    found = {"scores": _scores(), "rates": _rates(with_band), "map": _map(spaces, inputs)}
    return found | ({"roc": _roc()} if with_roc else {})


def _chart(description: str, **rest: Any) -> dict[str, Any]:
    return {
        "$schema": _SCHEMA,
        "description": description,
        "width": "container",
        "height": 240,
        "autosize": {"type": "fit", "contains": "padding"},
    } | rest


def _axis(field: str, title: str, **rest: Any) -> dict[str, Any]:
    return {"field": field, "type": "quantitative", "title": title} | rest


def _rule() -> dict[str, Any]:
    return {
        "data": {"name": "now"},
        "mark": {"type": "rule", "strokeDash": [6, 4], "size": 2, "color": "#d62728"},
        "encoding": {
            "x": {"field": "at", "type": "quantitative"},
            "opacity": {"field": "opacity", "type": "quantitative", "scale": None},
        },
    }


def _scores() -> dict[str, Any]:
    return _chart(
        "How scores are distributed, by set; the dashed line is the threshold, what lies right of it is flagged",
        layer=[
            {
                "data": {"name": "bins"},
                "mark": {"type": "bar", "opacity": 0.55, "binSpacing": 0},
                "encoding": {
                    "x": _axis("start", "anomaly score", bin={"binned": True}, scale={"zero": False, "nice": False}),
                    "x2": {"field": "end"},
                    "y": _axis("share", "share of inputs", stack=None, axis={"format": ".0%"}),
                    "color": _COLOUR,
                    "tooltip": [
                        {"field": "set", "type": "nominal"},
                        _axis("start", "from"),
                        _axis("end", "to"),
                        _axis("share", "share", format=".2%"),
                    ],
                },
            },
            _rule(),
        ],
    )


def _rates(with_band: bool) -> dict[str, Any]:
    rate = _axis("rate", "false positive rate asked for", axis={"format": ".0%"})
    band = {
        "data": {"name": "band"},
        "mark": {"type": "area", "opacity": 0.25, "color": "grey"},
        "encoding": {"x": rate, "y": _axis("low", "share flagged"), "y2": {"field": "high"}},
    }
    return _chart(
        "Which share of each set is flagged, by the false positive rate that is asked for; clean inputs should lie on "
        "the diagonal, within the grey band",
        layer=[
            *([band] if with_band else []),
            {
                "data": {"name": "diagonal"},
                "mark": {"type": "line", "color": "grey", "strokeDash": [2, 2]},
                "encoding": {"x": rate, "y": _axis("rate", "share flagged")},
            },
            {
                "data": {"name": "shares"},
                "mark": {"type": "line"},
                "encoding": {
                    "x": rate,
                    "y": _axis("share", "share flagged", axis={"format": ".0%"}, scale={"domain": [0, 1]}),
                    "color": _COLOUR,
                    "tooltip": [
                        {"field": "set", "type": "nominal"},
                        _axis("rate", "asked for", format=".1%"),
                        _axis("share", "flagged", format=".2%"),
                    ],
                },
            },
            _rule(),
        ],
    )


def _roc() -> dict[str, Any]:
    return _chart(
        "Which share of each set is flagged, by the share of clean inputs that is flagged: ROC curves",
        layer=[
            {
                "data": {"name": "roc"},
                "mark": {"type": "line"},
                "encoding": {
                    "x": _axis("false", "clean inputs flagged", axis={"format": ".0%"}),
                    "y": _axis("true", "others flagged", axis={"format": ".0%"}),
                    "color": _COLOUR,
                    "order": {"field": "false", "type": "quantitative"},
                },
            },
            _rule(),
        ],
    )


def _map(spaces: Sequence[str], inputs: Sequence[str]) -> dict[str, Any]:
    # By number, and in one text: some names, as "__proto__" and "constructor", mean something to Vega.
    def named(names: Sequence[str], **rest: Any) -> dict[str, Any]:
        text = json.dumps("".join(f"\n{name}" for name in names))
        return {"labelExpr": f"split({text}, '\\n')[datum.value + 1]", "labelLimit": 160} | rest

    return _chart(
        "p-values of the most anomalous inputs in every layer: dark is small",
        height=14 * len(inputs),  # that of the rows: labels and legend come beside
        autosize={"type": "fit-x", "contains": "padding"},
        data={"name": "map"},
        mark={"type": "rect"},
        encoding={
            "x": {"field": "column", "type": "ordinal", "title": None, "axis": named(spaces, labelAngle=-35)},
            "y": {"field": "place", "type": "ordinal", "title": None, "axis": named(inputs)},
            "color": _axis(
                "drawn",
                "-log10 p",
                scale={"scheme": "viridis", "reverse": True, "domain": [0, 4]},
                legend={"orient": "top"},
            ),
            "tooltip": [
                {"field": "input", "type": "nominal"},
                {"field": "space", "type": "nominal"},
                _axis("p", "p-value", format=".3g"),
            ],
        },
    )
