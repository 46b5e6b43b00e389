"""The replay as it was at the end of a trial."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.agents import Schedule
from foretell.diagnostics.snapshots import added_by, held_out_trials, transitions_at
from foretell.errors import UserError
from foretell.replay import Replay, Transitions


def replay_of(added, capacity):
    """The transition that was added as number n has reward n."""
    reward = np.zeros(capacity)
    for number in range(added):
        reward[number % capacity] = number
    rows = reward[:, None].repeat(2, 1)
    return Replay(Transitions(rows, rows[:, :1], reward, rows + 1, reward > 3), np.int32(added), np.int32(0))


@given(added=st.integers(1, 30), capacity=st.integers(1, 20), back=st.integers(0, 29))
def test_it_holds_the_newest_transitions_of_that_time_or_says_how_many_are_lost(added, capacity, back):
    then = max(1, added - back)
    held = [*range(then)][-capacity:]
    lost = [number for number in held if number < added - capacity]
    if lost:
        with pytest.raises(UserError, match=f"^{len(lost)} of the {len(held)} transitions that the replay held then"):
            transitions_at(replay_of(added, capacity), then)
    else:
        found = transitions_at(replay_of(added, capacity), then)
        assert found.reward.tolist() == held and found.next_obs[:, 0].tolist() == [number + 1 for number in held]


def test_without_a_time_it_holds_what_it_holds_now():
    assert transitions_at(replay_of(7, 5)).reward.tolist() == [2, 3, 4, 5, 6]


ROWS = [{"kind": "random", "length": 5, "env_steps": 5}] + [
    row
    for i in range(4)
    for row in (
        {"kind": "train", "length": 10 + i, "env_steps": 100 * (i + 1)},
        {"kind": "eval", "length": 7, "env_steps": 100 * (i + 1)},
    )
]
"""Of four trials, their lengths 10 to 13."""
KEPT_OUT = Schedule(trials=4, episodes_per_learning=2, validation_episodes=1)


def test_trials_for_validation_are_not_in_the_replay():
    assert [row["length"] for row in held_out_trials(ROWS, KEPT_OUT)] == [11, 13]
    assert [added_by(ROWS, KEPT_OUT, trial) for trial in (1, 2, 3, 4)] == [100, 189, 289, 376]
    assert added_by(ROWS, Schedule(trials=4), 4) == 400


def test_a_trial_that_is_not_there():
    with pytest.raises(UserError, match="the run has no trial 5, only 4"):
        added_by(ROWS, KEPT_OUT, 5)
