"""Measures of a curve, and what several runs come to."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from foretell.report.aggregates import (
    draw_finals,
    estimate,
    interquartile_band,
    interquartile_mean,
    interval,
    measure,
)
from foretell.report.comparison import Curve, Group, Line

RETURNS = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=12)


def curve(returns, every=10):
    values = np.array(returns, float)
    return Curve(every * np.arange(1, len(values) + 1), values, np.zeros(len(values)))


def test_the_measures_of_a_curve():
    found = measure(curve([0, 5, 9, 2, 4, 6]), goal=5.0)
    assert found == (6, 60, 4.0, 9.0, 30, 20)  # points, steps, final, best, best_at, passed
    assert measure(curve([0, 5])).final == 2.5 and measure(curve([0, 5]), goal=6.0).passed is None
    assert measure(curve(range(100))).final == np.mean(range(90, 100))


def test_the_interquartile_mean_leaves_out_a_quarter_on_either_side():
    assert interquartile_mean(np.array([100.0, 1, 2, -50, 3, 4, 5, 0])) == np.mean([1, 2, 3, 4])
    assert interquartile_mean(np.array([1.0, 2, 3, 4, 100])) == 3.0
    assert interquartile_mean(np.array([1.0, 2, 9])) == 4.0


def test_the_interval_is_the_one_of_a_bootstrap_by_hand():
    values = np.random.default_rng(1).normal(size=8)
    picks = np.random.default_rng(2).integers(8, size=(20_000, 8))
    means = np.sort(values[picks], 1)[:, 2:6].mean(1)
    low, high = interval(values)
    assert [low, high] == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.08)


@settings(max_examples=15, deadline=None)
@given(RETURNS)
@pytest.mark.long
def test_an_estimate_lies_in_its_interval_within_the_returns(returns):
    found = estimate(np.array(returns))
    slack = 1e-9 * max(1, *map(abs, returns))
    assert min(returns) - slack <= found.low <= found.high <= max(returns) + slack
    assert min(returns) - slack <= found.value <= max(returns) + slack


@pytest.mark.long
def test_a_band_goes_as_far_as_all_runs_and_has_few_points():
    curves = [curve(np.full(500, i)) for i in range(4)] + [curve(np.full(300, 9))]
    band = interquartile_band(curves)
    assert len(band.steps) <= 100 and band.steps[0] == 10 and band.steps[-1] == 3000
    assert np.allclose(band.middle, 2.0) and (band.low < 2).all() and (band.high > 2).all()
    assert interquartile_band(curves[:1]).low.tolist() == interquartile_band(curves[:1]).high.tolist()


def test_final_returns_are_drawn_in_a_row_for_each_group():
    groups = [Group("good", [curve([8.0]), curve([10.0])]), Group("bad $", [curve([1.0])])]
    axes = Figure().subplots()
    draw_finals(axes, groups, [Line("goal 9", 9.0)])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["good", r"bad \$"]
    intervals, runs, middles = ([line.get_xydata().tolist() for line in axes.lines[:-1][i::3]] for i in range(3))
    assert intervals == [[[8.0, 0], [10.0, 0]], [[1.0, 1], [1.0, 1]]]
    assert runs == [[[8.0, 0], [10.0, 0]], [[1.0, 1]]] and middles == [[[9.0, 0]], [[1.0, 1]]]
    assert axes.lines[-1].get_xdata() == [9.0, 9.0]
