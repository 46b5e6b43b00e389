"""What is acted in, and what failed within a compiled program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from environments import Line
from foretell.envs import live
from foretell.errors import UserError


@pytest.fixture(autouse=True)
def nothing_reported():
    yield
    with live.serving([]):
        pass
    assert live.served() == ()


def test_blocks_announce_their_environments_the_innermost_first():
    first, second = Line(), Line()
    assert not live.served()
    with live.serving([first]):
        assert live.served() == (first,)
        with live.serving([first, second]):
            assert live.served() == (first, second)
        assert live.served() == (first,)
    assert not live.served()


def test_a_block_that_fails_is_left_too():
    with pytest.raises(ZeroDivisionError), live.serving([Line()]):
        _ = 1 / 0
    assert not live.served()


def test_the_first_failure_is_raised_at_the_end_of_the_block_and_only_once():
    passed = []
    with pytest.raises(UserError, match=r"^first$"), live.serving([Line()]):
        live.report(UserError("first"))
        live.report(UserError("second"))
        passed.append("the rest of the block")
    assert passed and not live.served()
    with live.serving([Line()]):
        pass


def test_another_exception_goes_before():
    with pytest.raises(KeyError), live.serving([Line()]):
        live.report(UserError("a consequence"))
        raise KeyError
    live.raise_reported()


def test_outside_of_a_block_it_is_raised_on_request():
    live.report(UserError("the gripper is jammed"))
    with pytest.raises(UserError, match="jammed"):
        live.raise_reported()
    live.raise_reported()


@pytest.mark.long
def test_a_block_is_not_blamed_for_what_failed_before_it():
    live.report(UserError("nobody asked"))
    with live.serving([Line()]):
        pass


@pytest.mark.long
def test_what_a_callback_reports_is_raised():
    def fails(x):
        live.report(UserError(f"not for {len(live.served())} environments"))
        return np.full_like(x, np.nan)

    double = jax.jit(lambda x: jax.pure_callback(fails, jax.ShapeDtypeStruct((2,), jnp.float32), x))
    with pytest.raises(UserError, match=r"^not for 3 environments$"), live.serving([Line()] * 3):
        found = np.asarray(double(jnp.ones(2)))
    assert np.isnan(found).all()
