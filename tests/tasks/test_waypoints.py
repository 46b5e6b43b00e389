"""Following a path: geometry, moving on from segment to segment, and what it costs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.tasks import waypoints as w

COORDINATE = st.floats(-20, 20, width=32)
POINT = st.tuples(COORDINATE, COORDINATE)
CORNER = w.through([(0, 0), (2, 0), (2, 2), (0, 2)])
PATHS = [w.STRAIGHT, w.BACKWARD, w.FORWARD_BACKWARD, w.LEFT, w.RIGHT, w.ANT_LEFT, w.ANT_RIGHT, w.U_TURN, w.CIRCLE]


def project(start, end, point):
    share, distance = w.project(*(jnp.array(p, jnp.float32) for p in (start, end, point)))
    return float(share), float(distance)


def walk(path, points, origin=(0.0, 0.0)):
    """`Followed` of one plan at each of the points in turn."""
    progress, found = w.begin(jnp.array(origin)), []
    for point in points:
        found.append(w.follow(path, progress, jnp.array(point) + jnp.array(origin)))
        progress = found[-1].progress
    return found


@pytest.mark.parametrize(
    ("point", "share", "distance"),
    [((1, 1), 0.5, 1.0), ((3, 1), 1.5, 2**0.5), ((-1, 0), -0.5, 1.0), ((2, 0), 1.0, 0.0), ((0.5, 0), 0.25, 0.0)],
)
def test_projection(point, share, distance):
    assert project((0, 0), (2, 0), point) == pytest.approx((share, distance), abs=1e-6)


@settings(deadline=None, max_examples=50)
@given(POINT, POINT, POINT)
def test_projection_is_finite_and_no_farther_than_either_end(start, end, point):
    share, distance = project(start, end, point)
    assert np.isfinite(share) and distance >= 0
    assert distance <= min(np.hypot(*np.subtract(point, start)), np.hypot(*np.subtract(point, end))) + 1e-4


@settings(deadline=None, max_examples=50)
@given(POINT, st.floats(0.5, 10), st.floats(0, 6.28), POINT, st.floats(0, 6.28))
@pytest.mark.long
def test_projection_does_not_depend_on_how_the_plane_is_turned(start, length, direction, point, turn):
    end = np.add(start, [length * np.cos(direction), length * np.sin(direction)])
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    turned = project(*(rotation @ p for p in (start, end, point)))
    assert turned == pytest.approx(project(start, end, point), abs=2e-3)


@settings(deadline=None, max_examples=20)
@given(POINT, POINT)
def test_a_segment_without_length_is_a_point(place, point):
    share, distance = project(place, place, point)
    assert share == 0 and distance == pytest.approx(np.hypot(*np.subtract(point, place)), abs=1e-4)


def test_one_moves_on_when_the_next_segment_is_as_near():
    found = walk(CORNER, [(1.0, 0.1), (1.9, 0.05), (1.9, 0.2), (2.0, 1.0)])
    assert [int(f.progress.segment) for f in found] == [0, 0, 1, 1]
    assert [bool(f.progress.moved) for f in found] == [False, False, True, True]
    np.testing.assert_allclose([f.distance for f in found], [0.1, 0.05, 0.1, 0.0], atol=1e-6)
    np.testing.assert_allclose([f.progress.forward for f in found], [0.5, 0.95, 0.1, 0.5], atol=1e-6)


def test_after_moving_on_all_of_the_share_counts_at_every_step():
    found = walk(CORNER, [(1.0, 0.1), (1.9, 0.05), (1.9, 0.2), (2.0, 1.0)])
    np.testing.assert_allclose([f.advance for f in found], [0.5, 0.45, 0.1, 0.5], atol=1e-6)


def test_one_moves_on_by_one_segment_at_a_time():
    found = walk(w.STRAIGHT, [(30.0, 0.0)] * 3)
    assert [int(f.progress.segment) for f in found] == [1, 2, 3]


def test_the_last_corner_is_shared_to_the_last_bit():
    """Outside of a corner both segments are as near as the corner itself: one moves on."""
    for angle in np.linspace(0.1, 1.4, 30):
        path = w.through([(0.1, 0.3), (1.7, 0.9), (1.7 - np.cos(angle), 0.9 + np.sin(angle))])
        point = np.array([1.7, 0.9]) + 0.37 * np.array([np.cos(0.2), np.sin(0.2)])
        assert int(walk(path, [tuple(point)])[0].progress.segment) == 1


@pytest.mark.parametrize("before", [0.002, 0.004])
def test_a_segment_that_is_hardly_farther_is_not_the_next_one(before):
    """At 1 m from the path the end of a segment is only 8 um farther than the nearest point 4 mm before it."""
    found = walk(CORNER, [(2 - before, -1.0), (2.0, -1.0)])
    assert [int(f.progress.segment) for f in found] == [0, 1]


def test_segments_that_overlap_are_equally_near():
    """So a robot that should turn at 3 m is sent back soon after 2 m, as released."""
    found = walk(w.FORWARD_BACKWARD, [(0.3 * i, 0.01) for i in range(10)])
    assert [int(f.progress.segment) for f in found] == [0, 0, 0, 0, 1, 1, 1, 2, 3, 3]
    assert [int(f.progress.segment) for f in walk(w.FORWARD_BACKWARD, [(0.7, 0.0), (1.3, 0.0)])] == [0, 1]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.long
def test_beyond_the_end_nothing_is_gained_and_all_is_finite(path):
    end = path.end[-1]
    found = walk(path, [tuple(point) for point in path.start] + [tuple(end + [3.0, 4.0])] * 5)
    assert all(np.isfinite([f.distance, f.advance, f.progress.forward]).all() for f in found)
    assert all(f.distance >= 0 for f in found)
    assert int(found[-1].progress.segment) == len(path.start) - 1
    assert float(found[-1].advance) == 0 and float(found[-1].distance) == pytest.approx(5)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.long
def test_numpy_follows_as_jax_does(path):
    """Simulators follow in NumPy, since they are also stepped within JAX's callbacks."""
    points = np.random.default_rng(0).uniform(-1, 3, (20, 1, 2)).astype(np.float32)
    here, there = w.begin(points[0]), w.begin(jnp.array(points[0]))
    for point in points:
        ours, theirs = w.follow(path, here, point), w.follow(path, there, jnp.array(point))
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
            assert isinstance(a, np.ndarray) and a.dtype.kind == b.dtype.kind
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)
        here, there = ours.progress, theirs.progress


@pytest.mark.long
@settings(deadline=None, max_examples=30)
@given(st.lists(POINT, min_size=1, max_size=6), POINT, st.sampled_from(range(len(PATHS))))
def test_following_is_finite_and_does_not_depend_on_where_it_began(points, origin, which):
    here, there = walk(PATHS[which], points), walk(PATHS[which], points, origin)
    for one, other in zip(here, there, strict=True):
        assert np.isfinite([one.distance, one.advance]).all() and one.distance >= 0
        if int(one.progress.segment) != int(other.progress.segment):
            return  # as near, but for rounding
        assert float(one.distance) == pytest.approx(float(other.distance), abs=1e-3)


@pytest.mark.long
def test_all_candidates_are_followed_at_once():
    points = np.random.default_rng(0).uniform(-1, 4, (3, 5, 2)).astype(np.float32)
    progress = w.begin(jnp.zeros((3, 5, 2)))._replace(segment=jnp.arange(15).reshape(3, 5) % 4)
    whole = jax.jit(w.follow)(CORNER, progress, jnp.array(points))
    mapped = jax.vmap(jax.vmap(lambda p, x: w.follow(CORNER, p, x)))(progress, jnp.array(points))
    assert whole.distance.shape == whole.progress.moved.shape == (3, 5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), whole, mapped)
    for i, j in ((0, 0), (1, 3), (2, 4)):
        alone = w.follow(CORNER, jax.tree.map(lambda leaf, at=(i, j): leaf[at], progress), jnp.array(points[i, j]))
        assert float(alone.advance) == pytest.approx(float(whole.advance[i, j]), abs=1e-6)


def test_a_plan_forgets_the_last_one_and_begins_where_it_is():
    origin = jnp.array([5.0, 5.0])
    used = w.Progress(jnp.array(0), jnp.array(0.9), jnp.array(True), origin)
    begun = w.follow_in_plan(CORNER, used, origin + jnp.array([1.0, 0.0]))
    assert (int(begun.segment), bool(begun.moved), float(begun.forward)) == (0, False, 0.5)
    begun = w.follow_in_plan(CORNER, used, origin + jnp.array([2.0, 0.5]))
    assert (int(begun.segment), bool(begun.moved), float(begun.forward)) == (1, True, 0.25)


def test_an_episode_goes_on_by_one_segment_if_the_chosen_candidate_did():
    progress = w.begin(jnp.zeros((2, 2)))
    chosen = progress._replace(segment=jnp.array([3, 0]), moved=jnp.array([True, False]))
    assert w.carry_on(progress, chosen).segment.tolist() == [1, 0]


@pytest.mark.parametrize("path", [w.STRAIGHT, w.LEFT, w.RIGHT, w.ANT_LEFT, w.ANT_RIGHT, w.U_TURN])
@pytest.mark.long
def test_one_who_walks_along_finishes(path):
    """One who takes small steps is on the segment that is next to be walked, and never leaves the path."""
    progress = w.begin(jnp.array(path.start[0]))
    for start, end in zip(path.start[: w.LEGS], path.end[: w.LEGS], strict=True):
        for share in np.linspace(0, 1, 15):
            plan = w.follow_in_plan(path, progress, jnp.array(start + share * (end - start)))
            progress = w.carry_on(progress, plan)
    assert int(progress.segment) == w.LEGS


def test_the_paths_are_the_published_ones():
    ends = {
        "STRAIGHT": (58, 39.9, 0),
        "BACKWARD": (80, -39.5, 0),
        "FORWARD_BACKWARD": (9, -2, 0),
        "LEFT": (8, 4, 4),
        "RIGHT": (10, 8, 3),
        "ANT_LEFT": (10, 6, 7),
        "ANT_RIGHT": (10, 7, 4),
        "U_TURN": (8, 0, 2),
        "CIRCLE": (10, 2 * np.cos(9 * np.pi / 8) - 2, -2 * np.sin(9 * np.pi / 8)),
    }
    for name, end in ends.items():
        path = getattr(w, name)
        np.testing.assert_allclose([len(path.start), *path.start[-1]], end, rtol=1e-6, err_msg=name)
        np.testing.assert_array_equal(path.start[0], 0)
        np.testing.assert_array_equal(path.start[1:], path.end[:-1])
    np.testing.assert_allclose(w.STRAIGHT.start[:3, 0], [0, 0.7, 1.4], rtol=1e-6)
    np.testing.assert_allclose(w.FORWARD_BACKWARD.start[:, 0], [0, 1, 2, 3, 2, 1, 0, -1, -2])
    np.testing.assert_allclose(np.hypot(w.CIRCLE.start[:, 0] + 2, w.CIRCLE.start[:, 1]), 2, rtol=1e-6)


def test_directions():
    np.testing.assert_allclose(w.U_TURN.angle, np.pi * np.array([0, 0, 0.5, 0.5, 1, 1, 1, 1]))
    np.testing.assert_allclose(w.LEFT.angle[2:5], [0, np.pi / 4, np.pi / 2])


@pytest.mark.long
def test_cost():
    def cost(weights, distance, advance):
        progress = w.begin(jnp.zeros(2))
        return float(weights(w.Followed(progress, jnp.array(distance), jnp.array(advance))))

    near, far = w.PathCost(4.0, 85.0, 100.0), w.PathCost(4.0, 85.0, 100.0, far=10.0)
    assert cost(near, 0.5, 0.1) == pytest.approx(2 - 8.5) == cost(far, 0.5, 0.1)
    assert cost(near, 1.0, -0.1) == pytest.approx(4 + 8.5)
    assert cost(far, 1.0, 0.0) == pytest.approx(40) and cost(far, 0.999, 0.0) == pytest.approx(3.996)
