"""The values that sweeps try: domains, computed settings, and the mistakes of sweep files."""

import math

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from foretell import UserError
from foretell.experiments.search import next_values
from foretell.experiments.space import Domain, Table, cells, derived
from foretell.experiments.sweep_file import Experiment, Search, read_sweep


def test_a_grid_is_every_combination_in_order():
    space = {
        "a": Domain(choices=[[4], [8, 8]]),
        "b": Domain(integers=(1, 2)),
        "c": Domain(range=(1, 100), log=True, points=3),
    }
    found = cells(space)
    assert (
        len(found) == 12 and found[0] == {"a": [4], "b": 1, "c": 1.0} and found[-1] == {"a": [8, 8], "b": 2, "c": 100.0}
    )
    assert [cell["c"] for cell in found[:3]] == [1.0, 10.0, 100.0]
    with pytest.raises(UserError, match="number of values of x: points: 5"):
        cells({"x": Domain(range=(0, 1))})


@given(st.integers(0, 2**31), st.integers(1, 10_000), st.integers(1, 10_000), st.booleans(), st.booleans())
def test_what_is_drawn_is_in_the_domain(seed, low, size, log, whole):
    domain = Domain(**{"integers" if whole else "range": (low, low + size), "log": log})
    value = domain.draw(np.random.default_rng(seed))
    assert domain.holds(value) and isinstance(value, int if whole else float)


def test_a_logarithmic_range_is_uniform_in_the_logarithm():
    domain, rng = Domain(range=(1e-4, 1.0), log=True), np.random.default_rng(0)
    logs = [math.log10(domain.draw(rng)) for _ in range(2000)]
    assert abs(np.mean(logs) + 2) < 0.1 and abs(np.mean(np.array(logs) < -3) - 0.25) < 0.04


def test_random_values_do_not_depend_on_how_many_there_are():
    experiment = Experiment(preset="x", vary={"a": {"range": (0.0, 1.0)}, "b": [1, 2, 3]})
    ten = next_values(experiment, Search(method="random", samples=10), [], [])
    four = next_values(experiment, Search(method="random", samples=4), [], [])
    assert ten[:4] == four and next_values(experiment, Search(method="random", samples=10), four, [None] * 4) == ten[4:]


def test_settings_are_computed_from_others_in_order():
    rules = {
        "elites": "planner.population // 10 + 1",
        "more": "max(elites, 3) * 2 - round(planner.horizon / 4)",
        "hidden": Table(of="size", values={"small": [8], "large": [64, 64]}),
    }
    values = {"planner.population": 45, "size": "large"}
    found = derived(values, rules, {"planner": {"population": 1, "horizon": 10}})
    assert found == {**values, "elites": 5, "more": 8, "hidden": [64, 64]}


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("__import__('os').system('ls')", r"may not have '__import__\('os'\).system\('ls'\)'; it may have numbers"),
        ("planner.population ** 2", r"may not have 'planner.population \*\* 2'"),
        ("[x for x in y]", "may not have"),
        ("'a'", "may not have"),
        ("planner.population //", "is not arithmetic"),
        ("planner.population / 0", r"cannot be computed \(division by zero\)"),
        ("planner.populaton", "no setting 'planner.populaton' to compute it from; did you mean 'planner.population'"),
        (
            Table(of="planner.population", values={50: 5}),
            "no value for planner.population=40; did you mean|choose one of: 50",
        ),
    ],
)
def test_a_rule_that_is_not_arithmetic_is_refused(rule, said):
    with pytest.raises(UserError, match=said):
        derived({"planner.population": 40}, {"elites": rule}, {})


GOOD = {"experiments": {"a": {"preset": "pets/default", "vary": {"planner.horizon": [2, 3]}}}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("search: {method: tpee}", "search.method='tpee'; did you mean 'tpe'"),
        ("search: {sample: 3}", "no key 'search.sample'; did you mean 'samples'"),
        ("serch: {}", "no key 'serch'; did you mean 'search'"),
        ("seeds: 0", "seeds=0: input should be greater than 0"),
        ("stop: {rule: median}", "'stop.after' is missing"),
        ("vary: {planner.horizon: {ranje: [1, 2]}}", "no key '.*ranje'; did you mean 'range'"),
        ("vary: {planner.horizon: {range: [2, 1]}}", "range must go from a smaller to a larger number"),
        ("vary: {planner.horizon: {range: [0, 1], log: true}}", "logarithmic range must begin above 0"),
        ("vary: {planner.horizon: {choices: [1], integers: [1, 2]}}", "not choices and integers"),
        ("derive: {planner.horizon: 3 * 4}", "'planner.horizon' is both in vary and in derive"),
        ("varies: {}", "no key 'experiments.a.varies'; did you mean 'vary'"),
    ],
)
def test_a_mistake_in_a_sweep_file_is_one_sentence(text, said, tmp_path):
    tree, change = yaml.safe_load(yaml.safe_dump(GOOD)), yaml.safe_load(text)
    key = next(iter(change))
    (tree["experiments"]["a"] if key in ("vary", "derive", "varies") else tree).update(change)
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump(tree))
    with pytest.raises(UserError, match=said):
        read_sweep(path)
