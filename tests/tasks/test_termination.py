"""Published termination functions, on the rows of the specification of MBPO (section 7.6) and on the environments."""

import gymnasium
import jax.numpy as jnp
import numpy as np
import pytest

from foretell.tasks import termination

NAN, INF = np.nan, np.inf
ROWS = {
    "hopper": (
        [(1.25, 0, 0, 0), (0.7, 0, 0, 0), (1.25, 0.2, 0, 0), (1.25, 0.1, -150, 0), (1.25, 0.1, 150, 0), (NAN, 0, 0, 0)],
        [0, 1, 1, 1, 1, 1],
    ),
    "walker2d": (
        [(1.25, 0, 0), (0.8, 0, 0), (2.0, 0, 0), (1.25, -1.0, 0), (1.25, 0.5, 120), (NAN, 0, 0)],
        [0, 1, 1, 1, 0, 1],
    ),
    "ant": ([(0.75, 0), (0.2, 0), (1.0, 0), (1.01, 0), (0.75, INF)], [0, 0, 0, 1, 1]),
    "humanoid": ([(1.4, 0), (1.0, 0), (2.0, 0), (0.99, 0), (1.4, 1500.0), (NAN, 0)], [0, 1, 1, 1, 0, 1]),
    "inverted_pendulum": ([(0, 0.2), (0, 0.21), (INF, 0)], [0, 1, 1]),
}


def ends(name, rows):
    after = jnp.float32(rows)
    return getattr(termination, name)(after, after[:, :1], after)


@pytest.mark.parametrize("name", ROWS)
def test_known_rows(name):
    rows, expected = ROWS[name]
    np.testing.assert_array_equal(ends(name, rows), np.bool_(expected))


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "env", "options"),
    [
        ("hopper", "Hopper-v5", {}),
        ("walker2d", "Walker2d-v5", {}),
        ("ant", "Ant-v5", {"include_cfrc_ext_in_observation": False}),
        ("inverted_pendulum", "InvertedPendulum-v5", {}),
        ("inverted_double_pendulum", "InvertedDoublePendulum-v5", {}),
    ],
)
def test_episodes_end_where_the_environment_ends_them(name, env, options):
    """Random actions, until five episodes have ended or 400 steps are over."""
    with gymnasium.make(env, **options) as made:
        made.action_space.seed(0)
        obs, ended, found = made.reset(seed=0)[0], [], []
        for _ in range(400):
            obs, _, terminated, truncated, _ = made.step(made.action_space.sample())
            found.append(obs)
            ended.append(terminated)
            if terminated or truncated:
                obs, _ = made.reset()
            if sum(ended) == 5:
                break
    np.testing.assert_array_equal(ends(name, found), ended)
