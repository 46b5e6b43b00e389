"""Actions in units in which the bounds are -1 and 1."""

import jax.numpy as jnp
import numpy as np
import pytest

from foretell.tasks import Task
from foretell.tasks.base import TaskSpec


class Skewed(Task):
    spec = TaskSpec("Skewed-v0", ("x",), (-1.0, 0.0), (3.0, 0.4), horizon=10)


@pytest.mark.parametrize(
    ("unit", "own"), [((-1, -1), (-1, 0)), ((1, 1), (3, 0.4)), ((0, 0.5), (1, 0.3)), ((-2, 3), (-3, 0.8))]
)
@pytest.mark.long
def test_units_of_actions_beyond_the_bounds_too(unit, own):
    rows = jnp.float32([[unit]])
    np.testing.assert_allclose(Skewed().from_unit(rows), [[own]], atol=1e-6)
    np.testing.assert_allclose(Skewed().to_unit(Skewed().from_unit(rows)), rows, atol=1e-6)
