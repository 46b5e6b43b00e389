"""Several environments side by side, and learning within episodes: what happens when, and that it resumes exactly."""

import csv

import numpy as np
import pytest

import foretell
from foretell import Callback
from foretell.runs.directory import RunDirectory
from tiny import TINY, by_hand, interrupted_at

RAGGED = "environments:tiny/Ragged-v0"
SMALL = {
    "learner": {"hidden": [8], "batch_size": 8},
    "model": {"hidden": [8], "aux_hidden": [8]},
    "fit": {"batch_size": 8},
    "updates": {"per_step": 0.5, "pretraining": 700, "sync_policy_every": 4, "sync_model_every": 4},
    "train": {
        "steps": 60,
        "environments": 2,
        "steps_per_learning": 4,
        "random_steps": 14,
        "eval_episodes": 2,
        "eval_every": 20,
        "log_every": 10,
        "capacity": 500,
    },
}

ON_POLICY = {
    "policy": {"hidden": [8]},
    "train": {
        "steps": 60,
        "environments": 2,
        "steps_per_learning": 10,
        "eval_episodes": 2,
        "eval_every": 20,
        "log_every": 10,
        "capacity": 500,
    },
}


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def results(folder):
    """Everything a run has produced except its wall times."""
    files = sorted((folder / "data").iterdir())
    tables = [rows(folder / name) for name in ("episodes.csv", "metrics.csv")]
    timed = ("wall_seconds", "plan_seconds", "step_seconds", "fit_seconds", "compile_seconds", "compile_count")
    kept = [[{k: v for k, v in row.items() if k not in timed} for row in table] for table in tables]
    greedy = folder / "greedy.csv"
    lines = [line.split(",")[1:] for line in greedy.read_text().splitlines()] if greedy.exists() else []
    return kept, lines, [(path.name, path.read_bytes()) for path in files]


def train(out, preset="steve/default", env=RAGGED, settings=SMALL, callbacks=(), **more):
    return foretell.train(preset, out=out, env=env, overrides=[settings, more], callbacks=callbacks, quiet=True, seed=2)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train(tmp_path_factory.mktemp("steps") / "run")


@pytest.mark.long
def test_the_run_ends_after_its_steps_of_which_the_first_are_random(run):
    random, *_ = by_kind = [[r for r in run.episodes if r["kind"] == kind] for kind in ("random", "train", "eval")]
    assert sum(row["length"] for row in random) == 14 and max(row["env_steps"] for row in random) == 14
    assert min(row["env_steps"] for row in by_kind[1]) > 14
    assert 60 - 2 * 4 < 14 + sum(row["length"] for row in by_kind[1]) <= 60  # two may be under way


@pytest.mark.long
def test_each_environment_goes_on_by_itself(run):
    """Episodes of two to four steps end when they end; each has a number of its own from when it begins."""
    numbers = [row["episode"] for row in run.episodes]
    assert len(set(numbers)) == len(numbers) and numbers != sorted(numbers)
    assert {row["length"] for row in run.episodes if row["kind"] == "train"} == {2, 3, 4}


@pytest.mark.long
def test_learning_begins_with_the_model_and_follows_every_few_steps(run):
    learned = rows(run.directory / "metrics.csv")
    assert [int(row["env_steps"]) for row in learned] == [14, 14, 22, 30, 42, 50]
    assert [float(row["gradient_steps"]) for row in learned] == [500, 200, 2, 2, 2, 2]
    assert [int(row["learn"]) for row in learned] == [1, 2, 4, 6, 9, 11]


@pytest.mark.long
def test_rounds_of_evaluation_and_the_released_codes_file_of_them(run):
    evals = [row for row in run.episodes if row["kind"] == "eval"]
    assert [row["env_steps"] for row in evals] == [34, 34, 54, 54, 60, 60]  # the last round is the final agent's
    lines = [line.split(",") for line in (run.directory / "greedy.csv").read_text().splitlines()]
    assert [int(steps) for _, _, steps, _ in lines] == [34, 34, 54, 54, 60, 60]
    assert [float(score) for *_, score in lines] == pytest.approx([row["return"] for row in evals], abs=1e-6)
    versions = [int(version) for _, version, *_ in lines]
    assert versions == sorted(versions) and versions[0] > 1


@pytest.mark.long
@pytest.mark.parametrize(
    "moment", [("learn_end", 1), ("step", 22), *by_hand(("step", 3), ("step", 13), ("step", 37))], ids=str
)
def test_a_run_interrupted_anywhere_continues_exactly(moment, run, tmp_path):
    """Among them moments within pretraining, within an episode and within an evaluation; more are in `test_stops`."""
    out = tmp_path / "run"
    with interrupted_at(*moment):
        train(out)
    foretell.resume(out, quiet=True)
    assert results(out) == results(run.directory)


class Versions(Callback):
    """The versions of the policy that acts and of the newest one, in each step."""

    def __init__(self):
        self.acting, self.newest = [], []

    def on_step(self, event):
        if event.kind == "train":
            self.acting.append(int(event.extras["policy_version"][0]))
            self.newest.append(int(event.state.acting.version))


@pytest.mark.long
def test_a_policy_may_lag_behind_by_calls_of_learn(tmp_path):
    versions = Versions()
    whole = train(tmp_path / "whole", callbacks=[versions], train={"lag": 2})
    acting, newest = versions.acting, versions.newest
    assert acting[:2] == newest[:2]  # what was learned before it first acts is waited for
    every = SMALL["train"]["steps_per_learning"] // SMALL["train"]["environments"]
    assert acting[2 * every :] == newest[: -2 * every] and acting != newest
    out = tmp_path / "run"
    with interrupted_at("step", 15):
        train(out, train={"lag": 2})
    foretell.resume(out, quiet=True)
    assert results(out) == results(whole.directory)


@pytest.mark.slow
def test_several_calls_of_resume_continue_exactly(run, tmp_path):
    out = tmp_path / "run"
    with interrupted_at("step", 9):
        train(out)
    for _ in range(2):
        with interrupted_at("step", 11):
            foretell.resume(out, quiet=True)
    foretell.resume(out, quiet=True)
    assert results(out) == results(run.directory)


@pytest.mark.slow
def test_a_finished_run_can_be_loaded_evaluated_and_lengthened(run, tmp_path):
    loaded = foretell.load(run.directory, quiet=True)
    assert loaded.act(np.zeros(2)).shape == (1,)
    assert len(loaded.evaluate(3)) == 3
    out = tmp_path / "run"
    shorter = {**SMALL, "train": {**SMALL["train"], "steps": 40}}
    short = train(out, settings=shorter)
    assert [row["env_steps"] for row in short.episodes if row["kind"] == "eval"] == [34, 34, 40, 40]
    foretell.resume(out, overrides={"train": {"steps": 60}}, quiet=True)
    assert results(out) == results(run.directory)


@pytest.fixture(scope="module")
def on_policy(tmp_path_factory):
    return train(tmp_path_factory.mktemp("on-policy") / "run", "trpo/default", settings=ON_POLICY)


@pytest.mark.long
def test_an_agent_that_acts_untrained_learns_from_whole_batches_alone(on_policy):
    """The last batch is complete when the run ends, and is not learned from."""
    learned = rows(on_policy.directory / "metrics.csv")
    assert [int(row["env_steps"]) for row in learned] == [10, 20, 30, 40, 50]
    assert [float(row["policy_version"]) for row in learned] == [1, 2, 3, 4, 5]
    assert {row["kind"] for row in on_policy.episodes} == {"train", "eval"}


@pytest.mark.long
def test_actions_beyond_the_bounds_are_kept_as_they_were_drawn_and_executed_as_the_nearest_within(on_policy):
    """The environment refuses those beyond. What the policy drew is what its densities are of."""
    beyond = {"train": 0, "eval": 0}
    for row in on_policy.episodes:
        data = np.load(on_policy.directory / "data" / f"episode_{row['episode']:04d}.npz")
        obs, actions = data["observations"], data["actions"][:, 0]
        beyond[row["kind"]] += (np.abs(actions) > 1).sum()
        np.testing.assert_allclose(np.diff(obs[:, 1]), 0.1 * np.clip(actions, -1, 1), atol=1e-12)
    assert beyond["train"] > 5 and beyond["eval"] == 0


TOGETHER = {**TINY, "train": {**TINY["train"], "environments": 3, "trials": 6, "random_episodes": 3}}


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    out = tmp_path_factory.mktemp("together") / "run"
    return train(out, "pets/default", settings=TOGETHER)


@pytest.mark.long
def test_where_learning_waits_episodes_begin_and_end_together(together):
    assert [row["kind"] for row in together.episodes] == ["random"] * 3 + ["train"] * 6
    assert [row["episode"] for row in together.episodes] == list(range(9))
    steps = [row["env_steps"] for row in together.episodes]
    assert len(set(steps)) == 3 and steps == sorted(steps)
    assert len({row["length"] for row in together.episodes}) > 1
    assert sum(row["length"] for row in together.episodes) == steps[-1]
    assert [int(row["episode"]) for row in rows(together.directory / "metrics.csv")] == [3, 6]


ELSEWHERE = [("pets/default", TOGETHER, "together"), ("trpo/default", ON_POLICY, "on_policy")]


@pytest.mark.long
@pytest.mark.parametrize(("preset", "settings", "whole"), ELSEWHERE, ids=["together", "on-policy"])
@pytest.mark.parametrize("moment", [("step", 6), *by_hand(("step", 2), ("learn_end", 1), ("episode_end", 5))], ids=str)
def test_episodes_side_by_side_continue_exactly(moment, preset, settings, whole, tmp_path, request):
    out = tmp_path / "run"
    with interrupted_at(*moment):
        train(out, preset, settings=settings)
    foretell.resume(out, quiet=True)
    assert results(out) == results(request.getfixturevalue(whole).directory)


@pytest.mark.parametrize(
    ("preset", "settings", "sentence"),
    [
        ("steve/default", {"environments": 3}, "train: steps_per_learning (20) must be a multiple of environments (3)"),
        ("steve/default", {"warmup_episodes": 1}, "train: warmup_episodes must be 0 with steps_per_learning"),
        ("steve/default", {"random_episodes": 1}, "train: random_episodes must be 0 with steps_per_learning"),
        ("steve/default", {"steps_per_learning": None}, "train.steps_per_learning must be given: 'value-expansion'"),
        ("pets/default", {"environments": 2}, "train: trials (15) must be a multiple of environments (2), which begin"),
        ("pets/default", {"environments": 3, "log_predictions": "moments"}, "log_predictions needs a single"),
        ("steve/default", {"capacity": 7}, "train.capacity must be from 20 (the steps between two calls of learn)"),
        ("trpo/default", {"capacity": 7}, "train.capacity must be from 2000 (the steps between two calls of learn)"),
    ],
)
@pytest.mark.long
def test_schedules_that_cannot_be(preset, settings, sentence, tmp_path):
    with pytest.raises(foretell.UserError) as mistake:
        foretell.train(preset, out=tmp_path / "run", env=RAGGED, overrides={"train": settings}, quiet=True)
    assert sentence in str(mistake.value)
    assert not RunDirectory(tmp_path / "run").path.exists()
