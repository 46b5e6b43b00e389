"""Verdicts: numbers that are good, numbers that are poor, and what is said of them."""

import math

import pytest

from foretell.diagnostics.verdicts import lines, verdicts


def grades(**row):
    return [one.grade for one in verdicts(row)]


def biased(name, bias):
    return {f"{name}_bias": bias, f"{name}_scale": 10.0}


def covered(half, most):
    return {"share_0.5_1": half, "share_0.9_1": most}


def erring(error):
    return {"std_mse_1": error, "disagreement_1": 0.02}


@pytest.mark.parametrize(
    ("good", "fair", "poor"),
    [
        ({"std_mse_1": 0.1}, {"std_mse_1": 0.5}, {"std_mse_1": 1.2}),
        (biased("reward", -0.5), biased("reward", 3.0), biased("reward", -9.0)),
        (biased("plan", 0.5), biased("plan", -3.0), biased("plan", 9.0)),
        (covered(0.6, 0.93), covered(0.7, 0.95), covered(0.1, 0.4)),
        (erring(0.03), erring(0.2), erring(0.9)),
        ({"tracking_1": 0.7}, {"tracking_1": 0.3}, {"tracking_1": 0.0}),
        ({"action_noise": 0.1}, {"action_noise": 0.4}, None),
    ],
)
def test_each_quantity_has_its_grades(good, fair, poor):
    last = {grade: grades(**row)[-1] for grade, row in (("good", good), ("fair", fair), ("poor", poor)) if row}
    assert all(grade == found for grade, found in last.items()), last


def test_a_model_must_be_better_than_no_change():
    """Between two steps little changes, so a small error may be no better than that of predicting no change."""
    for error, grade in ((0.001, "good"), (0.005, "fair"), (0.02, "poor")):
        (found,) = verdicts({"std_mse_1": error, "still_mse_1": 0.01})
        assert found.grade == grade and "that of predicting no change" in found.text
    (found,) = verdicts({"std_mse_1": 0.1, "still_mse_1": 1.5})
    assert found.text.endswith("10 % of that of predicting the mean of the data")


def test_biased_values_may_still_have_the_right_order():
    bias, order = verdicts({"q_bias_critic": 20.0, "q_error_critic": 401.0, "q_scale": 25.0, "q_spread": 10.0})
    assert (bias.grade, order.grade) == ("poor", "good")
    assert bias.text.startswith(
        "values of the critics are too high: their bias is 80 % of the size of the true returns;"
    )
    assert "learner.critic_learning_rate" in bias.text and "1 % of the variance of the returns" in order.text


def test_only_the_nearest_and_the_furthest_prediction_are_judged():
    found = verdicts({f"std_mse_{k}": 0.1 * k for k in range(1, 12)} | {"std_mse_12": math.nan})
    assert [one.text[:12] for one in found] == ["1 step ahead", "11 steps ahe"]
    assert [one.grade for one in found] == ["good", "poor"] and "model.hidden" in found[1].text


def test_too_certain_and_too_uncertain_are_told_apart():
    certain, vague = (
        verdicts({"share_0.5_3": low, "share_0.9_3": high})[0].text for low, high in ((0.1, 0.3), (0.9, 1.0))
    )
    assert "90% of the particles hold 30% of the real values: too certain; more members" in certain
    assert vague.endswith("50% of the particles hold 90% of the real values: too uncertain")


def test_what_is_missing_is_not_judged():
    names = (
        "std_mse_1",
        "share_0.9_1",
        "q_bias_critic",
        "plan_bias",
        "tracking_1",
        "reward_bias",
        "action_noise",
        "kept",
    )
    assert verdicts({}) == verdicts(dict.fromkeys(names, math.nan)) == []
    assert verdicts({"std_mse_1": 0.0, "still_mse_1": 0.0, "reward_bias": 0.0, "reward_scale": 0.0})[0].grade == "good"


def test_lines_are_those_of_a_part():
    found = verdicts({"tracking_1": 0.0, "plan_bias": 1.0, "plan_scale": 100.0, "kept": 0.2})
    assert [*lines(found, "plans")] == [
        "  good  planned returns are about right: their bias is 1 % of the size of the true returns"
    ]
    assert next(lines(found, "model")).startswith("  fair  only 20% of the starts")
