"""The toy study of STEVE: its parts, what it measures, its command."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from foretell import toy
from foretell.cli import main
from tiny import snapshot

SMALL = ["--trials", "2", "--steps", "30"]
METHODS = pytest.mark.parametrize("method", toy.METHODS.values(), ids=toy.METHODS)


# The chain and its models.


@pytest.mark.parametrize("state", [0, 1, 57, 99, 100, 101])
def test_the_rewards_to_the_end_of_the_chain_sum_to_the_state(state):
    value, at, rng = 0.0, np.array([state]), np.random.default_rng(0)
    for _ in range(110):
        value += toy._REWARDS[at].item()
        at = toy.noisy_step(rng, at, 0.0)
    assert at == toy.TERMINAL and value == (state if state < toy.TERMINAL else 0)


def test_the_noisy_model_jumps_a_tenth_of_the_time_to_any_state_but_the_terminal_one():
    count = 400_000
    after = toy.noisy_step(np.random.default_rng(0), np.full(count, 50, np.int32), 0.1)
    frequencies = np.bincount(after, minlength=toy.TERMINAL + 1) / count
    each = 0.1 / 101
    assert frequencies[51] == pytest.approx(0.9 + each, abs=0.003)
    others = np.delete(frequencies, [51, toy.TERMINAL])
    assert frequencies[toy.TERMINAL] == 0
    np.testing.assert_allclose(others, each, atol=5 * np.sqrt(each / count))


def test_no_model_leaves_the_terminal_state():
    terminal = np.full(1000, toy.TERMINAL)
    for noise in (0.0, 0.1, 1.0):
        np.testing.assert_array_equal(toy.noisy_step(np.random.default_rng(0), terminal, noise), terminal)


def test_first_tables_are_whole_numbers_up_to_100_and_the_end_is_worth_nothing():
    tables = toy.first_tables(np.random.default_rng(0), 200)
    inner = tables[:, : toy.TERMINAL]
    assert tables.shape == (200, 102) and not tables[:, toy.TERMINAL].any()
    assert set(inner.ravel()) == set(range(101)) and inner.mean() == pytest.approx(50, abs=1)


@METHODS
def test_a_rollout_begins_with_a_true_step_and_earns_what_the_states_on_the_way_pay(method):
    seen = toy.imagine(np.random.default_rng(3), method, 400)
    shape = (400, method.members, method.horizon + 1, method.rollouts)
    assert seen.state.shape == shape[:2] and seen.ends.shape == seen.earned.shape == shape
    assert set(seen.state.ravel()) <= set(range(101))
    np.testing.assert_array_equal(seen.ends[:, :, 0], np.broadcast_to(seen.state[..., None] + 1, shape[:2] + shape[3:]))
    starts = np.concatenate([np.broadcast_to(seen.state[..., None, None], seen.ends[:, :, :1].shape), seen.ends], 2)
    paid = toy._REWARDS[starts[:, :, :-1]]
    np.testing.assert_array_equal(np.diff(seen.earned, axis=2), paid[:, :, 1:])
    np.testing.assert_array_equal(seen.earned[:, :, 0], paid[:, :, 0])
    astray = (seen.ends != np.minimum(starts[:, :, :-1] + 1, toy.TERMINAL))[:, :, 1:]
    assert astray.any() == bool(method.noise)


# Targets.


def test_weights_are_inverse_variances_and_uniform_without_any():
    for variances, weights in (
        ([1.0, 2.0, 4.0], [4 / 7, 2 / 7, 1 / 7]),
        ([0.0] * 4, [1 / 4] * 4),
        ([0, 1e-8], [2 / 3, 1 / 3]),
    ):
        np.testing.assert_allclose(toy.steve_weights(jnp.asarray(variances, float)), weights, rtol=1e-6)


def plain_step(tables, seen, method):
    """The members one after the other, in plain loops and float64; the tables and the squared errors of the targets."""
    tables, errors, uses = tables.astype(float), [], []
    for member in range(method.members):
        candidates = [
            [
                table[seen.ends[member, j, rollout]] + seen.earned[member, j, rollout]
                for table in tables
                for rollout in range(method.rollouts)
            ]
            for j in range(method.horizon + 1)
        ]
        means = [np.mean(samples) for samples in candidates]
        confidence = [1 / (np.var(samples) + 1e-8) for samples in candidates]
        weighted = sum(c * mean for c, mean in zip(confidence, means, strict=True)) / sum(confidence)
        target, state = (weighted if method.weighted else means[-1]), seen.state[member]
        tables[member, state] = target
        errors.append([(value - state) ** 2 for value in (means[0], means[-1], target)])
        uses.append(1 - confidence[0] / sum(confidence))
    return tables, np.mean(errors, 0), np.mean(uses)


_STEP = jax.jit(toy._step, static_argnames="method")


def one_step(tables, seen, method):
    """The tables, the loss and the diagnostics after it, all on the host."""
    tables, (loss, found) = jax.device_get(_STEP(tables, seen, method=method))
    return tables, loss, found


@METHODS
@pytest.mark.long
def test_a_step_updates_the_members_in_order_as_plain_loops_do(method):
    rng = np.random.default_rng(1)
    tables = toy.first_tables(rng, method.members)
    seen = toy.imagine(rng, method, 20)
    seen = seen._replace(state=seen.state // 10 * 10)  # states that meet again: members use what others wrote
    for step in range(20):
        now = toy.Experience(*(x[step] for x in seen))
        expected, errors, use = plain_step(tables, now, method)
        tables, loss, found = one_step(tables, now, method)
        np.testing.assert_allclose(tables, expected, rtol=1e-4, atol=1e-3)
        mean = expected.mean(0)[: toy.TERMINAL]
        assert loss == pytest.approx(np.mean((np.arange(toy.TERMINAL) - mean) ** 2), rel=1e-4)
        assert [found.one_step, found.longest, found.target] == pytest.approx(list(errors), rel=1e-3, abs=1e-3)
        assert not method.weighted or found.model_use == pytest.approx(use, abs=1e-3)


def test_a_member_bootstraps_on_what_another_wrote_in_the_same_step():
    method = toy.METHODS["ensemble"]._replace(members=2)
    tables = np.zeros((2, toy.TERMINAL + 1), np.float32)
    seen = toy.Experience(
        np.array([100, 99]), np.array([[[101]], [[100]]]), np.array([[[100.0]], [[-1.0]]], np.float32)
    )
    after, _, _ = one_step(tables, seen, method)
    assert after[0, 100] == 100 and after[1, 99] == -1 + (100 + 0) / 2


@pytest.mark.parametrize("name", ["baseline", "ensemble", "mve_oracle", "steve_oracle"])
def test_the_true_values_stay_and_all_errors_are_then_0(name):
    method = toy.METHODS[name]
    tables = np.tile(np.r_[np.arange(101), 0].astype(np.float32), (method.members, 1))
    seen = toy.imagine(np.random.default_rng(0), method, 1)
    after, loss, found = one_step(tables, toy.Experience(*(x[0] for x in seen)), method)
    np.testing.assert_allclose(after, tables, atol=1e-4)
    assert [loss, found.one_step, found.longest, found.target, found.best] == pytest.approx([0] * 5, abs=1e-8)
    assert name != "steve_oracle" or found.model_use == pytest.approx(5 / 6, abs=1e-6)


# The study.


@pytest.fixture(scope="module")
def study():
    return toy.run_study()


def mean_losses(study):
    return dict(zip(toy.METHODS, study.losses.mean(1), strict=True))


FIRST_BELOW_100 = {"ensemble": 9090, "mve_oracle": 1416, "steve_oracle": 2297, "steve_noisy": 5655}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "expected"), FIRST_BELOW_100.items())
def test_values_are_learned_as_fast_as_in_an_independent_study(name, expected, study):
    losses = study.losses[list(toy.METHODS).index(name)]
    assert toy.first_below(losses, 100.0) == pytest.approx(expected, rel=0.15)


@pytest.mark.slow
def test_a_right_model_helps_both_a_wrong_one_ruins_mve_alone(study):
    losses = mean_losses(study)
    small = {name: toy.first_below(mean[None], 10.0) or np.inf for name, mean in losses.items()}
    assert small["mve_oracle"] < small["steve_oracle"] < small["steve_noisy"] < 0.8 * len(losses["ensemble"])
    assert small["ensemble"] == small["baseline"] == small["mve_noisy"] == np.inf
    assert losses["ensemble"][-1] < losses["baseline"][-1] < 300
    assert max(losses[name][-1] for name in ("mve_oracle", "steve_oracle", "steve_noisy")) < 0.1


@pytest.mark.slow
def test_mve_with_the_noisy_model_leaves_the_truth_behind(study):
    losses = mean_losses(study)["mve_noisy"]
    assert losses.min() > 500 and losses[1000] < losses[2000] < losses[3000] < losses[5000]
    assert losses[-1] == pytest.approx(1885, rel=0.15)


@pytest.mark.slow
def test_steve_uses_a_right_model_throughout_and_a_wrong_one_ever_less(study):
    oracle, noisy = (study.diagnostics[name].model_use.mean(0) for name in ("steve_oracle", "steve_noisy"))
    windows = [slice(0, 20), slice(990, 1010), slice(-100, None)]
    assert [noisy[window].mean() for window in windows] == pytest.approx([0.81, 0.50, 0.27], abs=0.05)
    assert [oracle[window].mean() for window in windows] == pytest.approx([0.83] * 3, abs=0.04)


@pytest.mark.slow
def test_diagnostics_end_at_0_where_the_values_are_right(study):
    oracle, noisy = study.diagnostics["steve_oracle"], study.diagnostics["steve_noisy"]
    for found in (oracle, noisy):
        assert {values.shape for values in found} == {(10, 10_000)}
        assert max(errors[:, -100:].mean() for errors in (found.one_step, found.target, found.best)) < 0.01
        assert (found.best <= np.minimum(found.one_step, found.longest)).all()
    assert oracle.longest[:, -100:].mean() < 0.01 < 50 < noisy.longest[:, -100:].mean()


@pytest.mark.slow
def test_a_trial_is_the_same_however_many_trials_and_steps_there_are(study):
    for steps in (7, 504):
        short = toy.run_study(trials=2, steps=steps)
        assert short.losses.shape == (6, 2, steps) and short.diagnostics["steve_noisy"].wins.shape == (2, steps)
        np.testing.assert_allclose(short.losses, study.losses[:, :2, :steps], rtol=1e-4)
    assert not np.allclose(study.losses[:, 0], study.losses[:, 1])


# The command.


@pytest.mark.long
def test_the_command_prints_the_table_and_writes_a_figure_and_numbers(tmp_path, capsys):
    out = tmp_path / "new" / "toy"
    assert main(["toy", "--out", str(out), *SMALL]) == 0
    text, err = capsys.readouterr()
    lines = text.splitlines()
    assert err == "" and "\x1b" not in text and max(map(len, lines[:6])) <= 100
    assert [re.split("  +", line)[0] for line in lines[:5]] == ["step", "0", "29", "first below 100", "first below 10"]
    assert all(len(re.split("  +", line)) == 7 for line in lines[:5])
    assert [line.split(":")[0] for line in lines[5:7]] == ["model use of STEVE oracle", "model use of STEVE noisy"]
    written = [line.removeprefix("written to ") for line in lines[7:]]
    assert sorted(written) == sorted(str(path) for path in out.iterdir())
    assert {path.stem for path in out.iterdir()} >= {*toy.METHODS, "toy", "steve_noisy_diagnostics"}
    assert (out / "toy.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.long
def test_the_numbers_can_be_read_again(tmp_path):
    study = toy.run_study(seed=5, trials=2, steps=30)
    toy.write_study(study, tmp_path)
    for name, losses in zip(toy.METHODS, study.losses, strict=True):
        rows = np.loadtxt(tmp_path / f"{name}.csv", delimiter=",")
        assert rows.shape == (60, 4)
        np.testing.assert_array_equal(rows[:, :3], np.repeat(np.arange(30), 2)[:, None].repeat(3, 1))
        np.testing.assert_allclose(rows[:, 3].reshape(30, 2).T, losses, rtol=1e-5)
    found = np.genfromtxt(tmp_path / "steve_noisy_diagnostics.csv", delimiter=",", names=True)
    assert found.dtype.names == ("step", *toy.Diagnostics._fields)
    np.testing.assert_allclose(found["model_use"], study.diagnostics["steve_noisy"].model_use.mean(0), rtol=1e-5)


@pytest.mark.long
def test_one_seed_gives_one_result_and_a_second_study_replaces_the_first(tmp_path, capsys):
    printed, files = [], []
    for seed in ("7", "8", "7"):
        assert main(["toy", "--out", str(tmp_path), "--seed", seed, *SMALL]) == 0
        printed.append(capsys.readouterr().out)
        files.append({name: content for name, (content, _) in snapshot(tmp_path).items()})
    assert printed[0] == printed[2] != printed[1]
    assert files[0] == files[2] and all(files[0][name] != files[1][name] for name in files[0])


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--trials", "0"], "trials must be a whole number from 1 to 1000, not 0"),
        (["--trials", "-3"], "trials must be a whole number from 1 to 1000, not -3"),
        (["--steps", "0"], "steps must be a whole number from 1 to 100000, not 0"),
        (["--steps", "9" * 30], "steps must be a whole number from 1 to 100000, not 999"),
        (["--seed", "-1"], "seed must be a whole number from 0 to 2147483647, not -1"),
        (["--seed", str(2**31)], "seed must be a whole number from 0 to 2147483647, not 2147483648"),
        (["--steps", "many"], "argument --steps: invalid int value: 'many'"),
        (["--trails", "3"], "foretell toy does not take '--trails'; did you mean '--trials'?"),
        (["again"], "foretell toy does not take 'again'"),
    ],
    ids=str,
)
def test_a_mistake_is_refused_before_anything_is_written(argv, sentence, refused, tmp_path):
    assert sentence in refused("toy", "--out", tmp_path / "toy", *argv)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["file", "file/toy", "/proc/toy", "a" * 300])
def test_a_place_that_cannot_be_written_is_refused_before_the_study(place, refused, tmp_path, monkeypatch):
    monkeypatch.setattr(toy, "run_study", lambda **_: pytest.fail("ran"))
    (tmp_path / "file").touch()
    out = tmp_path / place
    assert refused("toy", "--out", out).startswith(f"cannot write '{out}': ")


@pytest.mark.long
def test_a_file_that_cannot_be_written_is_named(refused, tmp_path):
    (tmp_path / "steve_noisy.csv").mkdir()
    assert refused("toy", "--out", tmp_path, *SMALL) == f"cannot write '{tmp_path / 'steve_noisy.csv'}': Is a directory"
