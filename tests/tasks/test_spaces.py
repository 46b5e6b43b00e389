"""Spaces as flat vectors: what is flattened to what, that actions lie within bounds, and what is refused."""

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, Graph, MultiBinary, MultiDiscrete, Sequence, Text, Tuple
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from foretell.errors import UserError
from foretell.tasks.spaces import Spaces

PUSH = Box(-1.0, 1.0, (2,), np.float32)
GOAL = Dict({"observation": Box(-9.0, 9.0, (3,)), "achieved_goal": Box(-9.0, 9.0, (1,)), "desired_goal": PUSH})
OBSERVATIONS = {
    "vector": (PUSH, ["obs[0]", "obs[1]"]),
    "matrix": (Box(-1.0, 1.0, (2, 2)), ["obs[0,0]", "obs[0,1]", "obs[1,0]", "obs[1,1]"]),
    "number": (Box(-1.0, 1.0, ()), ["obs"]),
    "memory": (Box(0, 255, (3,), np.uint8), ["obs[0]", "obs[1]", "obs[2]"]),
    "binary": (MultiBinary(3), ["obs[0]", "obs[1]", "obs[2]"]),
    "discrete": (Discrete(3, start=-1), ["obs=-1", "obs=0", "obs=1"]),
    "several discrete": (MultiDiscrete([2, 3]), ["obs[0]=0", "obs[0]=1", "obs[1]=0", "obs[1]=1", "obs[1]=2"]),
    "tuple": (Tuple((PUSH, Discrete(2))), ["obs[0][0]", "obs[0][1]", "obs[1]=0", "obs[1]=1"]),
    "goal": (
        GOAL,
        ["achieved_goal[0]", "desired_goal[0]", "desired_goal[1]"] + [f"observation[{i}]" for i in range(3)],
    ),
    "nested": (Dict({"arm": Dict({"q": PUSH, "grip": MultiBinary(1)})}), ["arm.grip[0]", "arm.q[0]", "arm.q[1]"]),
}


@pytest.mark.parametrize("kind", OBSERVATIONS)
def test_observations_are_flattened_as_gymnasium_does_with_a_name_for_each_number(kind):
    space, names = OBSERVATIONS[kind]
    spaces = Spaces(space, PUSH, "X")
    space.seed(0)
    for _ in range(5):
        obs = space.sample()
        np.testing.assert_array_equal(spaces.vector(obs), gymnasium.spaces.flatten(space, obs))
    assert list(spaces.obs_names) == names and len(set(names)) == spaces.vector(obs).size


@pytest.mark.parametrize("kind", OBSERVATIONS)
def test_a_batch_of_observations_is_converted_as_each_of_them_is(kind):
    space, _ = OBSERVATIONS[kind]
    spaces, batched = Spaces(space, PUSH, "X"), gymnasium.vector.utils.batch_space(space, 4)
    batched.seed(1)
    batch = batched.sample()
    each = [spaces.vector(one) for one in gymnasium.vector.utils.iterate(batched, batch)]
    np.testing.assert_array_equal(spaces.vector(batch), each)


def test_the_vector_is_a_copy_and_keeps_the_precision_of_what_is_observed():
    seen = np.array([0.1, 0.2])
    vector = Spaces(PUSH, PUSH, "X").vector(seen)
    seen[:] = 7.0
    assert vector.tolist() == [0.1, 0.2]


@pytest.mark.parametrize(
    ("space", "wrong", "sentence"),
    [
        (GOAL, {"observation": np.zeros(3), "achieved_goal": np.zeros(1)}, "the observation has no 'desired_goal'"),
        (Tuple((PUSH, PUSH)), (np.zeros(2),), r"the observation has no 'obs\[1\]'"),
        (GOAL, np.zeros(6), "the observation has no 'achieved_goal'"),
        (PUSH, np.zeros(3), r"the observation has shape \(3,\), but its space has shape \(2,\)"),
        (Dict({"q": PUSH}), {"q": np.zeros((2, 1))}, r"'q' of the observation has shape \(2, 1\)"),
        (PUSH, np.array([1j, 2]), "not made of real numbers"),
        (Discrete(2), 2, r"the observation 2 is not in Discrete\(2\)"),
        (MultiDiscrete([2, 2]), np.array([0, -1]), "is not in MultiDiscrete"),
    ],
)
def test_an_observation_that_is_not_of_its_space(space, wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        Spaces(space, PUSH, "X").vector(wrong)


@pytest.mark.parametrize(
    ("space", "sentence"),
    [
        (
            Box(0, 255, (64, 64, 3), np.uint8),
            r"observes images ('obs' of shape (64, 64, 3)), but Foretell's models learn from",
        ),
        (
            Dict({"camera": Box(0, 255, (8, 8, 3), np.uint8), "q": PUSH}),
            "observes images ('camera' of shape (8, 8, 3))",
        ),
        (Box(0.0, 1.0, (1, 84, 84)), "observes images ('obs' of shape (1, 84, 84))"),
        (Text(5), "has observations of type Text ('obs'), which cannot be a vector of fixed size"),
        (Dict({"words": Sequence(PUSH)}), "has observations of type Sequence ('words')"),
        (Graph(PUSH, PUSH), "has observations of type Graph ('obs')"),
        (Box(-1, 1, (0,)), "has observations of shape (0,), which hold no numbers"),
        (Dict({}), "which hold no numbers"),
    ],
)
def test_observations_that_cannot_be_learned_from(space, sentence):
    with pytest.raises(UserError) as mistake:
        Spaces(space, PUSH, "X")
    assert str(mistake.value).startswith("'X' ") and sentence in str(mistake.value)


@pytest.mark.parametrize(
    ("space", "sentence"),
    [
        (Discrete(4), "has discrete actions (Discrete(4)), but Foretell's planners and policies choose real numbers"),
        (MultiDiscrete([2, 3]), "has discrete actions (MultiDiscrete([2 3]))"),
        (Tuple((PUSH, MultiBinary(2))), "has discrete actions (MultiBinary(2))"),
        (Dict({"move": PUSH, "grip": Discrete(2)}), "has discrete actions (Discrete(2))"),
        (Box(-1, 1, (1,), np.int8), "has actions of type int8, but only real numbers are supported"),
        (Sequence(PUSH), "has actions of type Sequence, but only real numbers are supported"),
        (Box(-1, 1, (0,)), "has actions of shape (0,), which hold no numbers"),
        (Box(0.5, 0.5, (2,)), "has no action to choose: the lower and upper bounds of all actions are equal"),
    ],
)
def test_actions_that_cannot_be_planned(space, sentence):
    with pytest.raises(UserError) as mistake:
        Spaces(PUSH, space, "X")
    assert str(mistake.value).startswith("'X' ") and sentence in str(mistake.value)


ACTIONS = {
    "vector": PUSH,
    "half": Box(np.float16([-0.1, 0.3]), np.float16([0.7, 0.4]), dtype=np.float16),
    "double": Box(np.array([0.1, -3.3]), np.array([0.7, 1 / 3]), dtype=np.float64),
    "matrix": Box(-0.3, 0.1, (2, 3), np.float64),
    "tuple": Tuple((Box(-0.1, 0.1, (2,), np.float16), Box(-0.7, 0.1, (1,), np.float64))),
    "dictionary": Dict({"b": PUSH, "a": Dict({"x": Box(-0.3, 0.3, (), np.float32)})}),
    "no width": Box(np.array([-1.0, 0.3, 0.0]), np.array([1.0, 0.3, 0.1]), dtype=np.float64),
}


@pytest.mark.parametrize("kind", ACTIONS)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_every_vector_becomes_an_action_of_the_space(kind, data):
    """At the bounds and beyond them too, where rounding to single precision would leave the space."""
    space = ACTIONS[kind]
    spaces = Spaces(PUSH, space, "X")
    low, high = spaces.low[spaces.free], spaces.high[spaces.free]
    vector = data.draw(arrays(np.float32, low.shape, elements=st.floats(-4, 4, width=32)))
    for action in (vector, np.float32(low), np.float32(high)):
        assert space.contains(spaces.native(action, low, high))


@pytest.mark.parametrize("kind", ACTIONS)
def test_a_vector_within_the_bounds_is_kept(kind):
    space = ACTIONS[kind]
    spaces = Spaces(PUSH, space, "X")
    space.seed(3)
    sample = gymnasium.spaces.flatten(space, space.sample())
    native = spaces.native(sample[spaces.free], spaces.low[spaces.free], spaces.high[spaces.free])
    np.testing.assert_array_equal(gymnasium.spaces.flatten(space, native), sample)


@pytest.mark.parametrize("kind", ACTIONS)
def test_an_action_is_a_writable_copy(kind):
    spaces = Spaces(PUSH, ACTIONS[kind], "X")
    vector = np.zeros(int(spaces.free.sum()), np.float32)
    vector.flags.writeable = False
    native = spaces.native(vector, spaces.low[spaces.free], spaces.high[spaces.free])
    leaves = (
        [native] if isinstance(native, np.ndarray) else list(native if isinstance(native, tuple) else native.values())
    )
    for leaf in leaves:
        if isinstance(leaf, np.ndarray):
            leaf[...] = 5.0
    assert not vector.any()


@pytest.mark.long
def test_actions_of_a_batch():
    spaces = Spaces(PUSH, ACTIONS["dictionary"], "X")
    native = spaces.native(np.arange(6.0).reshape(2, 3), [-9.0] * 3, [9.0] * 3)
    assert native["a"]["x"].tolist() == [0.0, 3.0] and native["b"].tolist() == [[1.0, 2.0], [4.0, 5.0]]
