"""The charts: valid Vega-Lite without colours of their own, right at the edges."""

from __future__ import annotations

import itertools
import json
import math
import re
from typing import Any

import numpy as np
import pytest

from seedbed.reports import charts, index_charts

_RUNGS = [{"params": 1000 * size, "tokens": 100 * size, "loss": 5 - size} for size in (1, 2, 3)]
_EXPECTED = {"params": 9000, "tokens": 900, "loss": 1.5, "low": 1.2, "high": 1.9}
_STEPS = [{"step": step, "loss": 1 / step, "part": "a"} for step in range(1, 30)]
_ALL: dict[str, Any] = {
    "bars": charts.bars([{"a": "x", "b": 0}], "a", "b", "title"),
    "grouped": charts.grouped_bars([{"a": "x", "g": "u", "b": 2.0}], "a", "g", "b", "title", ["u", "v"]),
    "curve": charts.curve(_STEPS, "step", "loss", "step", "loss"),
    "losses": charts.loss_curves(_STEPS, "step", "loss", "part", ["a"], "step", "loss", [{"step": 29, "loss": 0.1}]),
    "forecast": charts.forecast(_RUNGS, _EXPECTED, 1.4),
    "forecast without fact": charts.forecast(_RUNGS, _EXPECTED, None),
    "interval": charts.interval(_EXPECTED, 2.5),
    "interval without fact": charts.interval(_EXPECTED, None),
    "change": charts.change([{"a": "x", "before": 2.0, "after": 1.0}], "a", "title"),
    "calibration": charts.calibration([{"belief": 0.7, "accuracy": 0.3, "pairs": 4}]),
    "by size": charts.by_size([{"size": 10, "v": 2.0, "s": "u"}], "v", "s", ["u", "w"], "size", "title"),
    "ranking": charts.ranking([{"a": "x", "v": 2.0}, {"a": "y", "v": 3.0}], "a", "v", "title", ["x"]),
    "training counts": charts.training_counts(
        [{"count": 0, "value": 0.1, "group": "never", "token": "x"}], "norm", ["never", "more"]
    ),
    "heat map": charts.heat_map(np.eye(2), ["a", "a"], ["a", "b"], "to", "of", "title"),
    "lines": index_charts.lines(
        [{"x": 1, "y": 2.0, "series": "u"}, {"x": 2, "y": 3.0, "series": "v"}],
        "x",
        "y",
        ["u", "v"],
        "x",
        "y",
        dashed=["v"],
        y_log=True,
    ),
    "recall": charts.recall_against_speed([{"ef": 10, "recall": 1.0, "speed": 100.0}], 20.0),
}


@pytest.mark.parametrize("name", _ALL)
def test_a_chart_is_valid_fits_its_place_and_leaves_colours_to_the_page(name: str) -> None:
    spec = _ALL[name].to_dict(validate=True)
    assert spec["width"] == "container"
    text = json.dumps({key: value for key, value in spec.items() if key != "config"})
    assert not re.search(r'#[0-9a-fA-F]{6}"|"(fill|stroke)":', text)
    assert "nan" not in text.lower().replace("nanosecond", "")


def test_a_running_mean_keeps_the_mean_of_a_straight_line_and_damps_noise() -> None:
    line = [{"step": step, "loss": float(step)} for step in range(100)]
    assert [row["loss"] for row in charts.running_mean(line, "loss")][10:90] == [float(step) for step in range(10, 90)]
    noise = [{"step": step, "loss": float(step % 2)} for step in range(100)]
    assert all(0.3 < row["loss"] < 0.7 for row in charts.running_mean(noise, "loss"))


def test_fields_of_a_heat_map_keep_apart_where_names_are_alike() -> None:
    spec = charts.heat_map(
        np.array([[1.0, 2.0], [3.0, 4.0]]), ["the", "the"], ["a", "a"], "to", "of", "title"
    ).to_dict()
    (values,) = spec["datasets"].values()
    assert {(one["row"], one["column"]): one["value"] for one in values} == {
        (0, 0): 1.0, (0, 1): 2.0, (1, 0): 3.0, (1, 1): 4.0,
    }  # fmt: skip


def test_a_long_curve_is_thinned_and_keeps_its_ends() -> None:
    rows = [{"step": step} for step in range(12_345)]
    steps = [row["step"] for row in charts.thinned(rows)]
    assert (len(steps), steps[0], steps[-1]) == (400, 0, 12_344)
    assert {b - a for a, b in itertools.pairwise(steps)} == {30, 31}
    assert charts.thinned(rows[:5]) == rows[:5]


def test_infinity_is_a_gap_not_broken_json() -> None:
    rows = [{"step": 1, "loss": math.inf}, {"step": 2, "loss": math.nan}, {"step": 3, "loss": 1.0}]
    spec = charts.curve(rows, "step", "loss", "step", "loss").to_dict()
    (values,) = spec["datasets"].values()
    assert [row["loss"] for row in values] == [None, None, 1.0]
