"""What a model believed, as the tree that the scrubbing view of the page draws."""

from base64 import b64encode
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from foretell.diagnostics.belief import Accuracy, Belief, Foreseen, Horizons
from foretell.diagnostics.calibration import LEVELS
from foretell.diagnostics.candidates import RANKS, Searched
from foretell.diagnostics.tables import believed_row
from foretell.diagnostics.verdicts import verdicts
from foretell.page.media import data_uri
from foretell.page.views import Tree, rounded
from foretell.tasks import TaskSpec

MOMENTS = 60
"""Moments of an episode that are shown, at most."""
_NUMBERS = 500_000
"""Predicted numbers in a page, about, for each model."""
_DIMENSIONS, _PARTICLES = 24, 8
"""Shown of the observation, and of the particles, at most."""
_WIDTH = 320
"""Of a frame, in pixels."""
_LEVELS = 65_534
"""Steps between the lowest and the highest packed value; the next code is a number that is not finite."""


def moments_for(spec: TaskSpec, horizon: int) -> int:
    """How many moments fit into a page."""
    numbers = 2 * _PARTICLES * min(spec.obs_size, _DIMENSIONS) * (horizon + 1)
    return int(np.clip(_NUMBERS // numbers, 10, MOMENTS))


def belief_tree(name: str, belief: Belief, spec: TaskSpec) -> Tree:
    """Everything that the view shows of one run.

    Args:
        name: of the run.
        belief: what its model believed.
        spec: of its task.
    """
    lived, shown = belief.lived, dimensions(belief.accuracy)
    track, moments = lived.track, lived.moments
    rejected = belief.rejected
    means = None if rejected is None else np.asarray(rejected.obs).mean(2)[..., shown]
    return {
        "run": name,
        "env": spec.env_id,
        "names": [spec.obs_names[d] for d in shown],
        "left_out": spec.obs_size - len(shown),
        "complete": lived.complete,
        "return": float(track.rewards.sum()),
        "times": [moment.time for moment in moments],
        "obs": rounded(track.obs[:, shown].T),
        "actions": rounded(track.actions.T),
        "rewards": rounded(track.rewards),
        "value": rounded(lived.value_t),
        "frames": [None if one.frame is None else jpeg(one.frame) for one in moments],
        "plans": packed(np.asarray(belief.planned.action)),
        "planned": packed(_particles(belief.planned, shown)),
        "expected": packed(_particles(belief.expected, shown)),
        "members": _members(belief),
        "member_values": rounded(np.asarray(belief.planned.value)) if belief.has_value else None,
        "rejected": None if means is None else packed(means.reshape(len(moments), -1, *means.shape[1:])),
        "rejected_members": _by_moment(rejected, len(moments), belief.has_value),
        "searches": _searches(belief),
        "horizons": _horizons(belief.horizons),
        "neighbours": [[[*one] for one in row] for row in _short(belief)],
        "accuracy": _accuracy(belief.accuracy),
        "verdicts": [one._asdict() for one in verdicts(believed_row(belief.accuracy))],
    }


def dimensions(found: Accuracy) -> list[int]:
    """The dimensions of the observation that are shown: all, or those that are predicted worst, in their order."""
    worst = np.argsort(-found.error_d, kind="stable")[:_DIMENSIONS]
    return sorted(worst.tolist())


def packed(values: Float[np.ndarray, "*rows n"]) -> Tree:
    """Numbers as 16-bit codes between the lowest and the highest of each column, little-endian, in base64.

    The error is at most 1/131,068 of a column's range.
    """
    columns = np.asarray(values, np.float64).reshape(-1, np.shape(values)[-1])
    finite = np.isfinite(columns)
    low = np.where(finite, columns, np.inf).min(0)
    high = np.where(finite, columns, -np.inf).max(0)
    low, high = np.where(np.isfinite(low), low, 0.0), np.where(np.isfinite(high), high, 0.0)
    share = (np.where(finite, columns, low) - low) / np.where(high > low, high - low, 1.0)
    codes = np.where(finite, np.round(share * _LEVELS), _LEVELS + 1).astype("<u2")
    data = b64encode(codes.tobytes()).decode()
    return {"shape": list(np.shape(values)), "low": low.tolist(), "high": high.tolist(), "data": data}


def jpeg(frame: UInt8[np.ndarray, "height width 3"]) -> str:
    """A small picture as a `data:` address."""
    picture, file = Image.fromarray(frame), BytesIO()
    picture.thumbnail((_WIDTH, _WIDTH))
    picture.save(file, "JPEG", quality=80)
    return data_uri(file.getvalue(), "image/jpeg")


def _chosen(particles: int) -> list[int]:
    """Some particles, evenly spaced: those of one member are beside each other."""
    return np.unique(np.linspace(0, particles - 1, _PARTICLES).round().astype(int)).tolist()


def _particles(found: Foreseen, shown: Sequence[int]) -> Float[np.ndarray, "m k p d"]:
    obs = np.asarray(found.obs)[..., list(shown)]
    return obs[:, :, _chosen(obs.shape[2])]


def _members(belief: Belief) -> Tree | None:
    """The member that each particle follows, of all particles and of those whose predictions are shown."""
    particles = np.asarray(belief.planned.value).shape[1]
    if belief.members == 1:
        return None
    of_p = [p * belief.members // particles for p in range(particles)]
    return {"all": of_p, "shown": [of_p[p] for p in _chosen(particles)]}


def _by_moment(found: Foreseen | None, moments: int, has_value: bool) -> Any:
    if found is None or not has_value:
        return None
    value = np.asarray(found.value)
    return rounded(value.reshape(moments, -1, value.shape[1]))


def _searches(belief: Belief) -> list[Tree | None]:
    """Of each moment; the candidates' actions are those that were taken in imagination."""
    found = [moment.searched for moment in belief.lived.moments]
    if belief.rejected is None:
        return [None for _ in found]
    action = np.asarray(belief.rejected.action)
    action = action.reshape(len(found), -1, *action.shape[1:])
    return [None if one is None else _search(one, taken) for one, taken in zip(found, action, strict=True)]


def _horizons(found: Horizons | None) -> Tree | None:
    if found is None:
        return None
    return {"mean": rounded(found.mean_mj), "std": rounded(found.std_mj), "weight": rounded(found.weight_mj)}


def _search(one: Searched, action: Float[np.ndarray, "ranks horizon action"]) -> Tree:
    return {
        "ranks": list(RANKS),
        "values": rounded(one.values),
        "actions": rounded(np.moveaxis(action, 2, 1)),
        "quantiles": rounded(one.quantiles),
        "spread": rounded(one.spread),
        "count": one.tried,
    }


def _short(belief: Belief) -> list[list[tuple[int, int, float, float]]]:
    return [
        [(one.episode, one.time, float(f"{one.distance:.3g}"), float(f"{one.reward:.4g}")) for one in row]
        for row in belief.neighbours
    ]


def _accuracy(found: Accuracy) -> Tree:
    last = len(found.mse_k)
    steps = sorted({1, (last + 1) // 2, last})
    shares = {
        str(k): rounded(one.share_a) for k, one in ((k, found.calibrations[k - 1]) for k in steps) if one is not None
    }
    over_time = {
        str(k): {"error": rounded(found.error_ik[:, k - 1]), "std": rounded(found.std_ik[:, k - 1])} for k in steps
    }
    return {
        "mse": rounded(found.mse_k),
        "norm": rounded(found.norms.mean_k),
        "norm_low": rounded(found.norms.low_k),
        "norm_high": rounded(found.norms.high_k),
        "levels": list(LEVELS),
        "shares": shares,
        "starts": found.time_i.tolist(),
        "over_time": over_time,
        "std": rounded(np.sqrt(np.square(found.std_ik).mean(0))),
    }
