"""`foretell diagnose`: what it measures, prints, writes and draws."""

import csv
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import foretell
from environments import STEPS
from foretell.cli import main
from foretell.diagnostics.examination import Sizes, q_values
from foretell.diagnostics.figures import draw_density, standardised, trimmed
from foretell.diagnostics.play import Played
from foretell.diagnostics.recorded import recorded_tracks, transitions
from foretell.diagnostics.verdicts import verdicts
from foretell.keys import Stream, environment_seed, numpy_generator
from foretell.page.meanings import meaning_of
from tiny import LINE, TINY

VALUES = {
    "learner": {"hidden": [8], "batch_size": 8},
    "model": {"hidden": [8], "aux_hidden": [8]},
    "fit": {"batch_size": 8},
    "updates": {"per_step": 0.5, "pretraining": 5},
    "train": {"steps": 20, "steps_per_learning": 5, "random_steps": 10, "eval_episodes": 0, "capacity": 50},
}
CHANGES = {"pets/default": TINY, "mve/default": VALUES, "ddpg/default": VALUES, "sac/default": VALUES}
QUICK = ["--episodes", "2", "--horizon", "3", "--starts", "6"]
SIZES = Sizes(episodes=2, horizon=3, starts=6, oracle=(0, 2, 50))


@pytest.fixture
def undrawn(monkeypatch):
    """No figures of what is found, since they take longer than finding it."""
    monkeypatch.setattr("foretell.run.examined.draw_findings", lambda *_, **__: None)


@pytest.fixture(scope="module")
def run_of(tmp_path_factory):
    """The run of a preset, trained once."""
    runs = {}

    def make(preset):
        if preset not in runs:
            out = tmp_path_factory.mktemp("diagnosed") / "run"
            changes = [CHANGES[preset], {"train": {"save_all_models": True}}]
            runs[preset] = foretell.train(preset, out=out, env=LINE, overrides=changes, quiet=True)
        return runs[preset]

    return make


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("preset", "tables", "figures"),
    [
        ("pets/default", {"summary", "open_loop", "calibration"}, {"open_loop", "calibration"}),
        ("mve/default", {"summary", "open_loop", "q_values", "q_pairs"}, {"open_loop", "q_density"}),
        ("ddpg/default", {"summary", "q_values", "q_pairs"}, {"q_density"}),
    ],
)
@pytest.mark.long
def test_the_command_writes_and_prints_what_there_is(preset, tables, figures, run_of, capsys, tmp_path):
    run = run_of(preset)
    assert main(["diagnose", str(run.directory), *QUICK, "--trial", "2", "--out", str(tmp_path / "found")]) == 0
    out = capsys.readouterr().out
    assert f"tables and figures in {tmp_path / 'found'}" in out and "over 2 fresh episodes" in out
    files = {path.name for path in (tmp_path / "found").iterdir()}
    assert files == {f"{name}.csv" for name in tables} | {f"{name}.png" for name in figures}
    assert ("recorded actions; 6 of 6 starts" in out) == (preset != "ddpg/default")
    assert ("planned minus realised return" in out) == (preset == "pets/default")
    assert ("critic_grad_2" in out) == (preset != "pets/default")
    assert ("predicts no uncertainty" in out) == (preset == "mve/default")
    summary = {row["name"]: float(row["value"]) for row in table(tmp_path / "found" / "summary.csv")}
    assert summary and all(np.isfinite(list(summary.values())))
    assert {name for name in summary if meaning_of(name) is None} == set()
    for name in tables - {"summary", "q_pairs"}:
        columns = table(tmp_path / "found" / f"{name}.csv")[0]
        assert {column for column in columns if meaning_of(column) is None} == set()
    for one in verdicts(summary):
        assert f"{one.grade:4}  {one.text}\n" in out
    parts = {one.part for one in verdicts(summary)}
    assert parts >= {"pets/default": {"model", "uncertainty", "plans"}, "ddpg/default": {"values"}}.get(
        preset, {"model"}
    )


@pytest.mark.long
def test_the_hints_on_the_run_follow(run_of, tmp_path, capsys):
    run = shutil.copytree(run_of("pets/default").directory, tmp_path / "run")
    (run / "metrics.csv").write_text("learn,env_steps,new_mse\n" + "".join(f"{i},{i},0.1\n" for i in range(6)))
    assert main(["diagnose", str(run), *QUICK]) == 0
    (hint,) = foretell.load(run).hints()
    assert hint.name == "model error" and f"\n\nhint: {hint.text}\n" in capsys.readouterr().out


@pytest.mark.long
@pytest.mark.usefixtures("undrawn")
def test_by_default_it_writes_into_the_run_and_a_seed_gives_the_same(run_of):
    run = run_of("mve/default")
    first, second = (run.diagnose(SIZES, seed=3) for _ in range(2))
    assert (run.directory / "diagnostics" / "open_loop.csv").is_file()
    np.testing.assert_array_equal(first.open_loop.particles_ikpd, second.open_loop.particles_ikpd)
    np.testing.assert_array_equal(first.values.truth_et, second.values.truth_et)
    assert first.learner == second.learner and first.returns == second.returns
    assert run.diagnose(SIZES, seed=4).returns != first.returns


@pytest.mark.parametrize("policy", ["target", "online"])
@pytest.mark.long
@pytest.mark.usefixtures("undrawn")
def test_values_are_of_the_visited_pairs(policy, run_of):
    run = run_of("ddpg/default")
    values = run.diagnose(SIZES._replace(policy=policy, tail=1.0), seed=1).values
    agent, learned = run._controller.agent, run._controller.state.learner
    assert values.used_et.all() and values.truth_et.shape == (2, STEPS)
    np.testing.assert_allclose(values.estimates["oracle_0"], values.estimates["target"], rtol=1e-5)
    np.testing.assert_allclose(values.estimates["oracle_50"], values.truth_et, rtol=1e-5)
    pairs = table(run.directory / "diagnostics" / "q_pairs.csv")
    assert len(pairs) == 2 * STEPS and pairs[-1]["episode"] == "1" and pairs[-1]["step"] == str(STEPS - 1)
    # The line is played again by hand.
    own = int(numpy_generator(1, Stream.DIAGNOSE).integers(2**31))
    with run.task.make() as env:
        obs, rewards, critic = env.reset(seed=environment_seed(own, 0))[0], [], []
        for _ in range(STEPS):
            row = jnp.float32(obs)[None]
            if policy == "target":
                action = agent.learner.propose(learned, row[None], jax.random.key(0))[0][0]
            else:
                action = agent.act(run._controller.state.acting, (), row, jax.random.key(0), explore=False)[0]
            critic.append(float(agent.learner.values(learned.critics, row, action)[0, 0]))
            obs, reward, *_ = env.step(np.asarray(action[0]))
            rewards.append(reward)
    truth = [sum(0.99**k * r for k, r in enumerate(rewards[t:])) for t in range(STEPS)]
    np.testing.assert_allclose(values.truth_et[0], truth, rtol=1e-4)
    np.testing.assert_allclose(values.estimates["critic"][0], critic, rtol=1e-3, atol=1e-5)


@pytest.mark.long
@pytest.mark.usefixtures("undrawn")
def test_at_a_time_limit_the_truth_goes_on_or_steps_are_left_out(run_of):
    run = run_of("ddpg/default")
    kept, goes_on = (run.diagnose(SIZES._replace(tail=tail), seed=1).values for tail in (1.0, None))
    added = goes_on.truth_et - kept.truth_et
    np.testing.assert_allclose(added, added[:, -1:] * 0.99 ** np.arange(STEPS)[::-1], rtol=1e-4)
    assert (added != 0).all()
    few = run.diagnose(SIZES._replace(tail=0.97), seed=1).values
    assert few.used_et.sum(1).tolist() == [2, 2]  # 0.99^4 = 0.961, 0.99^3 = 0.970
    nothing = run.diagnose(SIZES._replace(tail=0.5), seed=1).values
    assert not nothing.used_et.any()


@pytest.mark.long
def test_entropy_bonuses_of_later_actions_are_part_of_values():
    reward, bonus = np.array([[1.0, 2.0, 3.0]]), np.array([[10.0, 20.0, 40.0]])
    played = Played(np.zeros((1, 4, 1)), np.zeros((1, 3, 1)), reward, np.array([3]), np.array([True]), {"bonus": bonus})
    target = np.array([[5.0, 6.0, 7.0]])
    found = q_values(played, target, target, np.array([99.0]), 10.0, 0.5, Sizes(oracle=(1,)))
    np.testing.assert_allclose(found.truth_et[0], [1 + 0.5 * (2 + 2) + 0.25 * (3 + 4), 2 + 0.5 * (3 + 4), 3])
    np.testing.assert_allclose(found.estimates["oracle_1"][0], [1 + 0.5 * (2 + 6), 2 + 0.5 * (4 + 7), 3])


@pytest.mark.slow
def test_sac_draws_from_its_policy(run_of):
    found = run_of("sac/default").diagnose(SIZES)
    assert np.isfinite(found.values.truth_et).all() and found.open_loop is None


@pytest.mark.long
@pytest.mark.usefixtures("undrawn")
def test_plans_are_compared_with_what_was_earned(run_of):
    run = run_of("pets/default")
    found = run.diagnose(SIZES)
    assert np.isfinite(found.plan).all() and found.values is None and found.learner == {}
    assert len(found.calibrations) == 3 and found.discount == 1.0


@pytest.mark.long
def test_recorded_episodes_are_read_without_those_of_evaluation(run_of):
    run = run_of("mve/default")
    tracks = recorded_tracks(run._files, run.task, 3, np.random.default_rng(0))
    assert [len(track.actions) for track in tracks] == [STEPS] * 3
    rows = transitions(tracks)
    assert rows.obs.shape == rows.next_obs.shape == (3 * STEPS, 2) and not rows.terminated.any()
    ended = [track._replace(terminated=i == 1) for i, track in enumerate(tracks)]
    assert np.flatnonzero(transitions(ended).terminated).tolist() == [2 * STEPS - 1]


@pytest.mark.long
def test_the_extreme_tenths_are_not_drawn(tmp_path):
    truth = np.random.default_rng(0).permutation(20).astype(float)
    kept, estimates = trimmed(truth, 2 * truth)
    assert sorted(kept) == list(range(2, 18)) and (estimates == 2 * kept).all()
    assert standardised(np.array([1.0, 3.0])).tolist() == [-1.0, 1.0]
    assert standardised(np.ones(3)).tolist() == [0.0, 0.0, 0.0]
    for name, estimate in (("line", np.zeros(20)), ("cloud", np.random.default_rng(1).normal(size=20))):
        draw_density(truth, estimate, tmp_path / f"{name}.png", title=name)
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--trial", "7"], "no model"),
        (["--episodes", "0"], "episodes must be at least 1, not 0"),
        (["--horizon", "0"], "horizon must be at least 1, not 0"),
        (["--oracle", "-1"], "the steps of oracle estimators must be at least 0, not -1"),
        (["--tail", "2"], "tail must be bootstrap or a share above 0 and up to 1, not 2.0"),
        (["--tail", "most"], "invalid share value: 'most'"),
    ],
    ids=str,
)
@pytest.mark.long
def test_mistakes(options, sentence, run_of, refused):
    assert sentence in refused("diagnose", run_of("pets/default").directory, *options)


@pytest.mark.long
def test_a_folder_that_is_no_run_is_refused(tmp_path, refused):
    assert "is not a run directory: it has no config.yaml" in refused("diagnose", tmp_path)
