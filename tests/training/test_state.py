import jax
import numpy as np

from foretell.runs.presets import resolve
from foretell.tasks import TaskSettings, make_task
from foretell.training.state import Stream, init_run, key_for, numpy_generator


def test_keys_differ_by_seed_stream_and_counter_and_repeat():
    def word(*args):
        return int(jax.random.bits(key_for(*args)))

    uses = [
        (0, Stream.ACT, 0, 0),
        (0, Stream.ACT, 0, 1),
        (0, Stream.ACT, 1, 0),
        (0, Stream.LEARN, 0),
        (1, Stream.ACT, 0, 0),
    ]
    assert len({word(*use) for use in uses}) == len(uses)
    assert word(*uses[0]) == word(*uses[0])


def test_host_generators_differ_by_stream_and_counter():
    draws = [numpy_generator(0, stream, i).random() for stream in (Stream.RANDOM, Stream.ENVIRONMENT) for i in (0, 1)]
    assert len(set(draws)) == 4


def test_the_state_of_a_run_is_arrays_alone_and_starts_at_zero():
    settings = resolve("pets/cartpole")
    task = make_task(TaskSettings())
    state = init_run(settings.build(task), task.spec, settings.train.model_copy(update={"capacity": 500}), seed=0)
    assert all(isinstance(leaf, (jax.Array, np.ndarray)) for leaf in jax.tree.leaves(state))
    assert not any(leaf.any() for leaf in jax.tree.leaves(state.counters))
    assert not (state.pending.waiting or state.episodes.running)
    assert state.replay.capacity == 500
    assert state.episodes.obs.shape == (1, 201, 4)


def test_no_leaf_of_the_state_has_a_weak_type():
    """A weak type would compile every program a second time once learning has made it strong."""
    settings = resolve("pets/cartpole")
    task = make_task(TaskSettings())
    state = init_run(settings.build(task), task.spec, settings.train.model_copy(update={"capacity": 500}), seed=0)
    assert not any(
        getattr(leaf, "weak_type", False) for leaf in jax.tree.leaves((state.agent, state.memory, state.replay))
    )
