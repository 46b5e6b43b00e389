"""What an agent is given to learn from: every step as it was taken, in its order, and only once."""

import jax
import numpy as np
import pytest
from witness import finished

ON_POLICY = {"environments": 2, "steps_per_learning": 10, "random_episodes": 0, "steps": 60}


def calls_of(run):
    """The data of each call of `learn`, on the host."""
    seen, calls = jax.tree.map(np.asarray, run.loop.state.agent)
    leaves, structure = jax.tree.flatten(seen)
    return [structure.unflatten(leaf[call] for leaf in leaves) for call in range(int(calls))]


def rows_of(run, kinds, float32=True):
    """Every step of the episodes of these kinds, by episode: obs, action, reward, next obs, terminated, over, time."""
    rows = {}
    for line in run.episodes:
        if line["kind"] in kinds:
            data = run.data_of(line["episode"])
            obs, length = np.float32(data["observations"]), line["length"]
            last = np.arange(length) == length - 1
            columns = (obs[:-1], np.float32(data["actions"]), np.float32(data["rewards"]), obs[1:], last, last)
            rows[line["episode"]] = [*zip(*columns, np.arange(length), strict=True)]
    return rows


def same_step(found, expected):
    return all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.fixture(scope="module")
def on_policy(tmp_path_factory):
    return finished(tmp_path_factory.mktemp("on-policy") / "run", "trajectories", pretraining=0, **ON_POLICY)


@pytest.mark.long
def test_a_batch_is_exactly_the_steps_since_the_last_call_in_their_order(on_policy):
    """Environments stand side by side, and each goes on in the next batch where it was in the last one."""
    batches = calls_of(on_policy)
    assert len(batches) == 5 and all(batch.valid.all() and batch.valid.shape == (5, 2) for batch in batches)
    steps = jax.tree.map(lambda *parts: np.concatenate(parts), *batches)
    known = list(rows_of(on_policy, ("train",)).values())
    finished_steps = 0
    for environment in range(2):
        columns = [column[:, environment] for column in steps[:-1]]
        ends = np.flatnonzero(columns[5])
        for start, end in zip([0, *ends + 1], ends, strict=False):
            episode = [tuple(column[t] for column in columns) for t in range(start, end + 1)]
            assert sum(all(map(same_step, episode, other)) for other in known if len(other) == len(episode)) == 1
            finished_steps += len(episode)
        for t in range(1, len(columns[0])):
            assert columns[6][t] == (0 if columns[5][t - 1] else columns[6][t - 1] + 1)
    assert finished_steps > 40


@pytest.mark.long
def test_actions_are_given_as_they_were_chosen_and_flags_are_of_true_ends(on_policy):
    """Also beyond the bounds, where the environment executes the nearest within."""
    steps = jax.tree.map(lambda *parts: np.concatenate(parts), *calls_of(on_policy))
    assert (np.abs(steps.action) > 1).any()
    moved = steps.next_obs[..., 1] - steps.obs[..., 1]
    np.testing.assert_allclose(moved, 0.1 * np.clip(steps.action[..., 0], -1, 1), atol=1e-6)
    np.testing.assert_array_equal(steps.terminated, steps.over)


@pytest.mark.long
def test_a_time_limit_ends_an_episode_but_does_not_terminate_it(tmp_path):
    run = finished(tmp_path / "run", "trajectories", env="environments:tiny/Line-v0", pretraining=0, **ON_POLICY)
    steps = jax.tree.map(lambda *parts: np.concatenate(parts), *calls_of(run))
    assert not steps.terminated.any()
    np.testing.assert_array_equal(steps.over, steps.time == 4)


@pytest.mark.long
def test_episodes_side_by_side_are_given_with_the_waiting_of_the_shorter(tmp_path):
    """Where learning waits for the end of episodes, and also if it waits for several rounds of them."""
    run = finished(
        tmp_path / "run", "trajectories", environments=2, trials=8, random_episodes=0, episodes_per_learning=2
    )
    first, rows = calls_of(run)[0], rows_of(run, ("train",))
    assert len(calls_of(run)) == 1 and first.valid.shape == (10, 2)
    for environment in range(2):
        columns = [column[first.valid[:, environment], environment] for column in first[:-1]]
        found = [tuple(column[t] for column in columns) for t in range(len(columns[0]))]
        expected = [step for episode in (environment, 2 + environment) for step in rows[episode]]
        assert all(map(same_step, found, expected)) and len(found) == len(expected)


@pytest.mark.long
def test_random_episodes_are_given_too(tmp_path):
    run = finished(tmp_path / "run", "trajectories", trials=1, random_episodes=3)
    given = calls_of(run)[0].valid.sum()
    assert given == sum(line["length"] for line in run.episodes if line["kind"] == "random")


SCHEDULES = {
    "between episodes": {"environments": 2, "trials": 6, "random_episodes": 2, "eval_episodes": 1},
    "within episodes": {
        "environments": 2,
        "steps": 40,
        "steps_per_learning": 4,
        "random_episodes": 0,
        "random_steps": 14,
        "eval_episodes": 1,
        "eval_every": 20,
    },
}


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.long
def test_a_replay_holds_every_step_but_those_of_evaluation_once(schedule, tmp_path):
    """And `new` counts those since the last call."""
    run = finished(tmp_path / "run", **schedule)
    replays = calls_of(run)
    added = [int(replay.added) for replay in replays]
    assert np.diff([0, *added]).tolist() == [int(replay.new) for replay in replays]
    last, known = replays[-1], [step for rows in rows_of(run, ("random", "train")).values() for step in rows]
    stored = [tuple(column[i] for column in last.data) for i in range(added[-1])]
    found = [sum(same_step(row[:4], step[:4]) for row in stored) for step in known]
    assert set(found) <= {0, 1}
    under_way = int(run.loop.state.episodes.length.sum())
    waiting = int(run.loop.state.collected.steps.valid.sum())
    assert len(stored) + waiting == sum(line["length"] for line in run.episodes if line["kind"] != "eval") + under_way
    assert sum(found) >= len(stored) - under_way


@pytest.mark.long
def test_random_episodes_that_are_cut_do_not_terminate(tmp_path):
    run = finished(tmp_path / "run", **SCHEDULES["within episodes"])
    last = calls_of(run)[-1].data
    random = [step for rows in rows_of(run, ("random",)).values() for step in rows]
    cut = [len(rows) for rows in rows_of(run, ("random",)).values()]
    assert len(random) == 14 and min(cut) < 4
    ended = {tuple(np.float32([*step[0], *step[1]]).tolist()) for step in random if step[5]}
    flags = [
        bool(last.terminated[i])
        for i in range(14)
        if tuple(np.float32([*last.obs[i], *last.action[i]]).tolist()) in ended
    ]
    assert len(flags) == len(ended) and not all(flags) and any(flags)


@pytest.mark.long
def test_a_replay_that_is_full_keeps_the_newest(tmp_path):
    run = finished(tmp_path / "run", capacity=12, trials=8, random_episodes=1)
    last = calls_of(run)[-1]
    assert int(last.added) > 12
    lengths = [line["length"] for line in run.episodes][:-1]
    newest = [step for rows in rows_of(run, ("random", "train")).values() for step in rows][: sum(lengths)][-12:]
    slots = (int(last.added) - 12 + np.arange(12)) % 12
    assert all(
        same_step([column[i] for column in last.data][:4], step[:4]) for i, step in zip(slots, newest, strict=True)
    )
