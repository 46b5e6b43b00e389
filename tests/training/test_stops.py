"""A run that is interrupted, stopped by a callback or broken off by a failure goes on exactly where it was saved."""

import json

import numpy as np
import pytest
from witness import finished, lined

from environments import STEPS
from foretell.callbacks import Callback, StopTraining
from foretell.errors import UserError
from foretell.runs import checkpoint
from foretell.training.interrupt import Interrupted
from tiny import LINE, by_hand, presses_at

EPISODIC = {"environments": 2, "trials": 6, "random_episodes": 2, "warmup_episodes": 2, "eval_episodes": 2}
STEPWISE = {
    "environments": 2,
    "steps": 60,
    "steps_per_learning": 6,
    "random_episodes": 0,
    "random_steps": 14,
    "eval_episodes": 2,
    "eval_every": 20,
    "log_every": 10,
}
RUNS = {
    "between episodes": ("replay", EPISODIC),
    "within episodes": ("replay", STEPWISE),
    "batches": ("trajectories", {**STEPWISE, "random_steps": 0}),
}
MOMENTS = [("step", 2), ("learn_end", 2)]
OTHERS = [("training_start", 1), ("learn_start", 3), ("episode_end", 5), ("step", 22)]
OTHERS += by_hand(("learn_start", 1), ("episode_end", 8), *(("step", count) for count in (7, 12, 17, 26, 31)))


@pytest.fixture(scope="module", params=RUNS)
def whole(request, tmp_path_factory):
    """How a run is made, and its results if nobody stops it."""
    data, schedule = RUNS[request.param]
    options = {"data": data, "pretraining": 2, **schedule}
    return options, finished(tmp_path_factory.mktemp("whole") / "run", **options).results


@pytest.mark.long
@pytest.mark.parametrize("moment", MOMENTS, ids=str)
def test_a_run_interrupted_anywhere_continues_exactly(moment, whole, tmp_path):
    options, expected = whole
    with pytest.raises(Interrupted, match="stopped and saved at episode"):
        finished(tmp_path / "run", callbacks=[presses_at(*moment)], **options)
    assert finished(tmp_path / "run", **options).results == expected


@pytest.mark.long
@pytest.mark.parametrize("moment", OTHERS, ids=str)
def test_a_run_interrupted_elsewhere_continues_exactly(moment, whole, tmp_path):
    """Among these are moments within evaluation, whose episode is then played again."""
    test_a_run_interrupted_anywhere_continues_exactly(moment, whole, tmp_path)


@pytest.mark.long
def test_a_run_interrupted_again_and_again_continues_exactly(whole, tmp_path):
    options, expected = whole
    for _ in range(20):
        run = lined(tmp_path / "run", callbacks=[presses_at("step", 13)], **options)
        try:
            run.loop.run()
        except Interrupted:
            continue
        break
    assert finished(tmp_path / "run", **options).results == expected


class Counts(Callback):
    """Notes what the steps of evaluation episodes are."""

    def __init__(self):
        self.steps = []

    def on_step(self, event):
        if event.kind == "eval":
            self.steps.append((int(event.episodes.number[0]), int(event.episodes.length[0])))


@pytest.mark.long
def test_an_evaluation_episode_that_is_interrupted_is_played_again_from_its_beginning(tmp_path):
    options = {"env": "environments:tiny/Line-v0", "trials": 1, "eval_episodes": 1}
    seen = Counts()
    with pytest.raises(Interrupted):  # in the third step after an episode of each other kind
        finished(tmp_path / "run", callbacks=[seen, presses_at("step", 2 * STEPS + 3)], **options)
    assert seen.steps == [(2, 1), (2, 2), (2, 3)]
    after = Counts()
    run = finished(tmp_path / "run", callbacks=[after], **options)
    assert after.steps == [(2, t) for t in range(1, STEPS + 1)]
    assert run.results == finished(tmp_path / "whole", **options).results


def test_ctrl_c_twice_does_not_wait(tmp_path):
    class Impatient(Callback):
        def on_interrupt(self, event):
            assert event.counters.env_steps > 0
            presses_at("step", 1).on_step(event)

    with pytest.raises(KeyboardInterrupt):
        finished(tmp_path / "run", callbacks=[Impatient(), presses_at("step", 4)], trials=2)


# Callbacks.


class StopsAfter(Callback):
    """Asks for the end of the run after so many steps; keeps the reason that there is at the end."""

    reasons = ()

    def __init__(self, steps):
        self.left = steps

    def on_step(self, event):
        self.left -= 1
        if not self.left:
            raise StopTraining("this is enough")

    def on_training_end(self, event):
        self.reasons = (*self.reasons, event.reason)


class StopsAtOnce(Callback):
    def on_training_start(self, event):
        raise StopTraining


@pytest.mark.long
@pytest.mark.parametrize("steps", [9, *by_hand(2, 19)])
def test_a_run_that_a_callback_ends_is_saved_and_goes_on_if_resumed(steps, whole, tmp_path):
    """The step in which it is asked to is the last one, unless that is part of an evaluation episode."""
    options, expected = whole
    stops = StopsAfter(steps)
    run = finished(tmp_path / "run", callbacks=[stops], **options)
    assert stops.reasons == ("this is enough",) and run.loop.counters.unsaved == 0
    assert run.results != expected
    assert run.loop.counters.added in (0, options["eval_episodes"]) and not run.loop.counters.evaluated
    assert finished(tmp_path / "run", **options).results == expected


def test_a_run_that_a_callback_ends_evaluates_what_it_has_learned(tmp_path):
    """The end comes at step 26: the latest round was at step 20, and it has learned since."""
    schedule = {**STEPWISE, "environments": 1, "random_steps": 0}
    run = finished(tmp_path / "run", callbacks=[StopsAfter(26 + 2 * STEPS)], env=LINE, **schedule)
    rows = [(row["kind"], row["env_steps"]) for row in run.episodes if row["kind"] == "eval"]
    assert rows == [("eval", 20)] * 2 + [("eval", 26)] * 2 and run.loop.counters.unsaved == 0
    done = run.results
    assert finished(tmp_path / "run", callbacks=[StopsAtOnce()], env=LINE, **schedule).results == done


@pytest.mark.long
def test_a_run_that_nobody_ends_has_no_reason(tmp_path):
    stops = StopsAfter(-1)
    finished(tmp_path / "run", callbacks=[stops], trials=1)
    assert stops.reasons == (None,)


@pytest.mark.long
def test_a_run_may_be_ended_before_it_begins(tmp_path):
    class Never(Callback):
        def on_training_start(self, event):
            raise StopTraining

    run = finished(tmp_path / "run", callbacks=[Never()], trials=1)
    assert run.loop.counters.begun == 0 and run.loop.counters.saved == 0


class FailsAfter(Callback):
    def __init__(self, steps):
        self.left = steps

    def on_step(self, event):
        self.left -= 1
        if not self.left:
            raise KeyError("score")


@pytest.mark.long
def test_a_callback_that_fails_ends_the_run_in_one_sentence_and_nothing_saved_is_lost(whole, tmp_path):
    options, expected = whole
    soon = {**options, "checkpoint_seconds": 1e-9}
    with pytest.raises(UserError) as mistake:
        finished(tmp_path / "run", callbacks=[FailsAfter(11)], **soon)
    line = FailsAfter.on_step.__code__.co_firstlineno + 3
    assert str(mistake.value) == (
        f"the callback FailsAfter failed in on_step ({__file__}, line {line}: KeyError: 'score')"
    )
    run = lined(tmp_path / "run", **options)
    assert run.loop.counters.env_steps > 0
    run.loop.run()
    assert run.results == expected


@pytest.mark.long
def test_watching_changes_nothing(whole, tmp_path):
    """Neither do the usual callbacks; and what they are shown is what happened."""
    options, expected = whole

    class Watches(Callback):
        hooks = ()

        def on_step(self, event):
            self.hooks += (event.kind,)
            assert event.progress[0] <= event.progress[1] and event.seconds >= 0
            assert bool(event.extras) == (event.kind != "random")

    watches = Watches()
    assert finished(tmp_path / "run", callbacks=[watches], **options).results == expected
    alone = finished(tmp_path / "alone", watched=False, **options)
    assert alone.results[2] == expected[2], "what the agent has learned"
    assert set(watches.hooks) == {row[2] for row in expected[0][0][1:]}, "episodes of all kinds"


@pytest.mark.long
def test_actions_are_decided_by_the_seed(tmp_path):
    first, again, other = (
        finished(tmp_path / name, seed=seed, trials=1).results for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert first == again != other
    assert np.isfinite(float(first[0][0][1][3]))


def test_a_checkpoint_of_an_earlier_version_goes_on(tmp_path, monkeypatch):
    """It lacks what is known of the latest round; what it has learned since then counts."""
    schedule = {**STEPWISE, "environments": 1, "random_steps": 0, "steps": 50, "env": LINE}
    expected = finished(tmp_path / "whole", **schedule).results
    pack = checkpoint._packed

    def earlier(tree):
        layout = json.loads((stored := pack(tree))["layout"].tobytes())
        last = list(layout)[-2:]
        assert last == ["counters.evaluated_at", "counters.added"]
        text = json.dumps({name: kind for name, kind in layout.items() if name not in last}).encode()
        return {**stored, "layout": np.frombuffer(text, np.uint8), "small": stored["small"][: -2 * 8]}

    monkeypatch.setattr(checkpoint, "_packed", earlier)
    with pytest.raises(Interrupted):
        finished(tmp_path / "run", callbacks=[presses_at("step", 26 + 2 * STEPS)], **schedule)
    monkeypatch.undo()
    assert finished(tmp_path / "run", **schedule).results == expected
