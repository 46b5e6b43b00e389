"""The views of learning curves, against computations by hand."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from written import write_run

from foretell.page.belief import packed
from foretell.page.records import grouped, read_record
from foretell.page.references import Reference
from foretell.page.tables import results
from foretell.page.views import panels, rounded, transforms
from tiny import LINE


def panel_of(tmp_path, *curves, references=()):
    records = [read_record(write_run(tmp_path / str(i), curve, seed=i)) for i, curve in enumerate(curves)]
    (panel,) = panels(grouped(records), references, window=2)
    return panel


def test_views_of_one_curve():
    found = transforms(np.array([1.0, 3.0, 2.0, 5.0]), 2)
    assert {name: values.tolist() for name, values in found.items()} == {
        "raw": [1, 3, 2, 5], "smooth": [1, 2, 2.5, 3.5], "best": [1, 3, 3, 5],
    }  # fmt: skip


def test_bands_are_interquartile_means_as_far_as_all_runs_have_come(tmp_path):
    (group,) = panel_of(tmp_path, [0, 5, 1], [1, 2, 3], [2, 3, 9], [100, 100], [1, 1, 1])["groups"]
    band = group["bands"]["raw"]["steps"]
    assert band["x"] == [200, 300]
    assert band["middle"] == [
        round((1 + 1 + 2) / 3, 4),
        round((2 + 3 + 5) / 3, 4),
    ]  # without the lowest and the highest
    assert all(
        low <= middle <= high for low, middle, high in zip(band["low"], band["middle"], band["high"], strict=True)
    )
    assert group["bands"]["raw"]["seconds"]["x"] == [3, 5]
    assert group["bands"]["best"]["steps"]["middle"][1] == round((2 + 3 + 5) / 3, 4)
    assert group["runs"][2] == {
        "name": f"seed 2: {tmp_path / '2'}", "steps": [200, 300, 400], "seconds": [3, 5, 7], "raw": [2, 3, 9],
        "smooth": [2, 2.5, 6], "best": [2, 3, 9],
    }  # fmt: skip


def test_the_success_rate_is_a_view_where_every_episode_says_it(tmp_path):
    runs = [
        write_run(tmp_path / str(i), [1, 2, 3], seed=i, success=said) for i, said in enumerate([(0, 1, 1), (0, 0, 1)])
    ]
    groups = grouped([read_record(run) for run in runs])
    (panel,) = panels(groups, (), window=1)
    assert panel["groups"][0]["bands"]["success"]["steps"]["middle"] == [0, 0.5, 1]
    assert panel["groups"][0]["runs"][1]["success"] == [0, 0, 1]
    table = results(groups)
    assert table.header[-1] == "success rate" and table.rows[0][-1] == "50%"  # 2/3 and 1/3 of the last three
    some = grouped([read_record(write_run(tmp_path / "some", [1, 2, 3], success=(1, 0)))])
    assert "success" not in panels(some, (), 1)[0]["groups"][0]["bands"] and "success rate" not in results(some).header


def test_runs_without_steps_in_common_have_no_band(tmp_path):
    records = [read_record(write_run(tmp_path / "a", [1.0])), read_record(write_run(tmp_path / "b", [1.0, 2.0]))]
    late = records[1]._replace(points=records[1].points._replace(steps=np.array([900, 1000])))
    (panel,) = panels(grouped([records[0], late]), (), 1)
    assert panel["groups"][0]["bands"]["raw"]["steps"] is None


def test_published_results_are_in_the_panel_of_their_environment(tmp_path):
    common = {"label": "x", "source": "s", "statistic": "mean", "steps": (1,), "returns": (2.0,)}
    found = panel_of(tmp_path, [1], references=[Reference(env=LINE, **common), Reference(env="other", **common)])
    assert found["references"] == [{"label": "x", "about": "mean; s", "best": False, "x": [1], "y": [2.0]}]


def test_numbers_are_short_and_what_is_not_finite_is_none():
    assert rounded(np.array([123456.0, 0.000123456, 0.0, np.nan, -np.inf])) == [123460, 0.00012346, 0, None, None]


@given(arrays(np.float64, (4, 3), elements=st.floats(-1e6, 1e6) | st.just(np.nan)))
def test_packed_numbers_are_exact_to_a_share_of_their_range(values):
    import base64

    found = packed(values)
    codes = np.frombuffer(base64.b64decode(found["data"]), "<u2").reshape(found["shape"])
    low, high = np.array(found["low"]), np.array(found["high"])
    again = np.where(codes == 65535, np.nan, low + codes / 65534 * (high - low))
    error = np.abs(again - values)
    assert np.array_equal(np.isnan(again), np.isnan(values))
    assert np.all(np.isnan(error) | (error <= (high - low) / 131068 * 1.001 + 1e-9))
