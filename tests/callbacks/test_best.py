"""`best/`: the agent of the best round of evaluation or trial, whatever happens to the run."""

import random
import shutil

import jax.numpy as jnp
import pytest
from played import Played

import foretell
from foretell.callbacks import KeepBest, load_best
from foretell.errors import UserError
from tiny import LINE, TINY, by_hand, interrupted_at, tiny_run

CHECKPOINTS = 3


def best(run):
    """What the best agent had learned."""
    return float(load_best(run.directory, jnp.zeros(())))


def files(run):
    return sorted(path.name for path in run.directory.best.glob("*.eqx"))


def table(run):
    return [line.split(",") for line in (run.directory.best / "best.csv").read_text().splitlines()[1:]]


def test_without_evaluation_the_agent_of_the_best_trial_is_kept(tmp_path):
    run = Played(tmp_path / "run", lambda: [KeepBest()])
    run.episode("random", 99.0, state=-1)
    for state, value in enumerate([-3.0, -1.0, -1.0, -2.0]):
        run.episode("train", value, state)
    assert best(run) == 1
    assert table(run) == [["1", "10", "-3.0"], ["2", "15", "-1.0"]]


def test_with_evaluation_it_is_that_of_the_best_round(tmp_path):
    run = Played(tmp_path / "run", lambda: [KeepBest()], eval_episodes=2)
    for state, pair in enumerate([(1.0, 2.0), (9.0, 0.0), (4.0, 4.0)]):
        run.episode("train", 100.0 * (state == 0), state)
        for value in pair:
            run.episode("eval", value, state)
    assert best(run) == 1 and [float(row[2]) for row in table(run)] == [1.5, 4.5]


def test_a_round_may_be_interrupted(tmp_path):
    run = Played(tmp_path / "run", lambda: [KeepBest()], eval_episodes=2)
    for state, pair in enumerate([(1.0, 3.0), (4.0, 2.0)]):
        run.episode("train", 0.0, state)
        run.episode("eval", pair[0], state)
        run.resume(run.save())
        run.episode("eval", pair[1], state)
    assert best(run) == 1 and [float(row[2]) for row in table(run)] == [2.0, 3.0]


def test_an_improvement_that_is_undone_does_not_survive_and_the_one_before_does(tmp_path):
    run = Played(tmp_path / "run", lambda: [KeepBest()])
    run.episode("train", 1.0, state=1)
    checkpoint = run.save()
    run.episode("train", 2.0, state=2)
    assert best(run) == 2
    run.resume(checkpoint)
    assert best(run) == 1 and files(run) == ["episode_0000.eqx"]
    run.episode("train", 1.5, state=3)
    assert best(run) == 3


def test_a_run_that_starts_anew_has_no_best(tmp_path):
    run = Played(tmp_path / "run", lambda: [KeepBest()])
    start = run.counters
    run.episode("train", 1.0)
    run.resume(start)
    assert files(run) == []
    with pytest.raises(UserError, match=r"^no best agent in '.*run'; none was kept \(train.keep_best\)$"):
        best(run)


@pytest.mark.parametrize("seed", [*range(4), *by_hand(4, 5, 6, 7)])
@pytest.mark.long
def test_whatever_checkpoint_a_run_falls_back_to_its_best_is_there(seed, tmp_path):
    """A killed run continues from any checkpoint that may be on disk: the newest could be damaged or unfinished."""
    generator = random.Random(seed)
    run, returns = Played(tmp_path / "run", lambda: [KeepBest()], checkpoints=CHECKPOINTS), []
    on_disk = [(run.counters, [])]
    for number in range(150):
        returns.append(number * generator.random())
        run.episode("train", returns[-1], state=returns[-1])
        if generator.random() < 0.5:
            on_disk = [*on_disk, (run.save(), list(returns))][-CHECKPOINTS - 1 :]
        if generator.random() < 0.1:
            on_disk = on_disk[: generator.randrange(1, len(on_disk) + 1)]
            counters, returns = on_disk[-1][0], list(on_disk[-1][1])
            run.resume(counters)
        if returns:
            assert best(run) == pytest.approx(max(returns))
    assert len(files(run)) < len(table(run)) or len(table(run)) < 3


def test_surpassed_agents_do_not_pile_up(tmp_path):
    run = Played(tmp_path / "run", lambda: [KeepBest()], checkpoints=CHECKPOINTS)
    for value in range(20):
        run.episode("train", value, state=value)
        run.save()
    assert len(files(run)) <= CHECKPOINTS + 2 and len(table(run)) == 20


def test_what_was_half_written_when_a_run_was_killed_is_removed(tmp_path):
    run = Played(tmp_path / "run", lambda: [KeepBest()])
    run.episode("train", 1.0, state=1)
    for name in ("episode_0007.eqx", "episode_0007.tmp"):
        (run.directory.best / name).write_bytes(b"")
    run.resume(run.save())
    assert files(run) == ["episode_0000.eqx"] and not list(run.directory.best.glob("*.tmp"))


@pytest.mark.parametrize("harm", ["agent", "table"])
def test_damage_is_reported(harm, tmp_path):
    run = Played(tmp_path / "run", lambda: [KeepBest()])
    run.episode("train", 1.0)
    path = run.directory.best / {"agent": "episode_0000.eqx", "table": "best.csv"}[harm]
    path.write_text("episode,env_steps,return\nmine,1,2\n")
    with pytest.raises(UserError, match="cannot read the model" if harm == "agent" else "is damaged"):
        best(run)


# Within a real run.


def train(out, **schedule):
    return tiny_run(out, **{"trials": 4, "keep_best": True, **schedule})


def kept(out):
    """The table of improvements, and how the best agent acts."""
    return (out / "best" / "best.csv").read_text(), foretell.load(out, best=True, quiet=True).evaluate(2)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Runs without and with evaluation."""
    make = tmp_path_factory.mktemp
    return {n: train(make("whole") / "run", eval_episodes=n, save_all_models=True).directory for n in (0, 2)}


MOMENTS = [(("step", 12), 0), (("episode_end", 3), 2)]
OTHERS = [(("step", 17), 2), (("episode_end", 4), 2), (("learn_end", 2), 2)]


@pytest.mark.long
@pytest.mark.parametrize("case", [*MOMENTS, *by_hand(*OTHERS)], ids=str)
def test_a_run_interrupted_anywhere_keeps_the_same_best(case, whole, tmp_path):
    moment, episodes = case
    with interrupted_at(*moment):
        train(tmp_path / "run", eval_episodes=episodes)
    foretell.resume(tmp_path / "run", quiet=True)
    assert kept(tmp_path / "run") == kept(whole[episodes])


@pytest.mark.long
def test_the_best_is_the_agent_that_acted_in_the_best_trial(whole):
    run = foretell.load(whole[0], quiet=True)
    trial = run.returns.index(max(run.returns)) + 1
    loaded = [foretell.load(run.directory, quiet=True, **which) for which in ({"best": True}, {"trial": trial})]
    assert loaded[0].evaluate(2) == loaded[1].evaluate(2)


@pytest.mark.long
def test_without_being_asked_to_a_run_keeps_none(trained):
    assert not (trained / "best").exists()


@pytest.mark.long
def test_a_run_that_replaces_another_forgets_its_best(whole, tmp_path):
    out = shutil.copytree(whole[0], tmp_path / "run")
    foretell.train("pets/default", out=out, env=LINE, overrides=TINY, overwrite=True, quiet=True)
    assert not (out / "best").exists()
