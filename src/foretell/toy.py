"""The tabular toy study of STEVE: values learned on a chain where the true ones are known.

Buckman et al. 2018, "Sample-Efficient Reinforcement Learning with Stochastic Ensemble Value Expansion", figure 1. The
states are 0 to 100 and a last, terminal one; the only action leads from s to s + 1; a step earns -1, the one from
state 100 earns 100; nothing is discounted, so the value of s is s. The noisy model jumps instead of stepping, with
probability 0.1, to any of the states 0 to 100; what it earns is right for the state it leaves.

Arrays are float32; losses and errors are squares of values. The random draws are NumPy's, from the seed and counters.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from foretell.errors import UserError
from foretell.runs.directory import writing

TERMINAL = 101
_REWARDS = np.r_[np.full(TERMINAL - 1, -1.0), 100.0, 0.0].astype(np.float32)
_CHUNK = 500  # steps one call of the compiled program takes
_ROWS = (0, 100, 500, 1000, 2000, 3000, 5000, 7500, 9999)


class Method(NamedTuple):
    """How a target is made: `horizon` model steps after the true one, `rollouts` of them side by side."""

    label: str
    colour: str
    members: int = 8
    """Q tables; each is updated once a step."""
    horizon: int = 5
    rollouts: int = 1
    noise: float = 0.0
    """Probability that a step of the model jumps."""
    weighted: bool = False
    """Whether the target is STEVE's mean of all candidates; otherwise it is the one of the longest horizon."""


METHODS = {
    "baseline": Method("Q-learning", "#9aa0a6", members=1, horizon=0),
    "ensemble": Method("ensemble Q", "#4b5563", horizon=0),
    "mve_oracle": Method("MVE oracle", "#d9822b"),
    "mve_noisy": Method("MVE noisy", "#d9822b", rollouts=8, noise=0.1),
    "steve_oracle": Method("STEVE oracle", "#1f6fb4", weighted=True),
    "steve_noisy": Method("STEVE noisy", "#1f6fb4", rollouts=8, noise=0.1, weighted=True),
}
"""The six experiments, by the names of their files."""


class Diagnostics(NamedTuple):
    """Means over the updates of a step; errors are squared distances of estimates from the true value of the state.

    The released code measures them from s + 1, so there they end at 1; here the true value is s.
    """

    one_step: Float[Array | np.ndarray, "..."]
    """Error of the candidate that uses no model."""
    longest: Float[Array | np.ndarray, "..."]
    target: Float[Array | np.ndarray, "..."]
    best: Float[Array | np.ndarray, "..."]
    """Error of the best single candidate."""
    wins: Float[Array | np.ndarray, "..."]
    """Share of updates whose target is nearer to the truth than the one-step candidate."""
    model_use: Float[Array | np.ndarray, "..."]
    """Weight of all candidates that use the model."""


class Study(NamedTuple):
    """What was measured; experiments are in the order of `METHODS`."""

    seed: int
    losses: Float[np.ndarray, "experiment trial step"]
    """Mean over s = 0..100 of (s - mean of the tables at s)^2, after each step."""
    diagnostics: dict[str, Diagnostics]
    """Of the two STEVE runs, by name; arrays `[trial step]`."""


class Experience(NamedTuple):
    """A state, the true step from it and the model's rollouts from there; candidate j takes j steps of the model."""

    state: Int[Array | np.ndarray, "..."]
    ends: Int[Array | np.ndarray, "... candidate rollout"]
    """Where each candidate looks up its last value."""
    earned: Float[Array | np.ndarray, "... candidate rollout"]
    """Sum of the rewards on the way there."""


def run_study(
    *, seed: int = 0, trials: int = 10, steps: int = 10_000, advanced: Callable[[str, int], None] = lambda *_: None
) -> Study:
    """All six experiments; `advanced` is told of a method's label and how many more steps it has taken.

    A trial's course depends on the seed alone, not on how many trials or steps there are. Raises `UserError`.
    """
    check(seed, trials, steps)
    losses, diagnostics = [], {}
    for number, (name, method) in enumerate(METHODS.items()):
        trial_seeds = [(seed, number, trial) for trial in range(trials)]
        tables = np.stack([first_tables(np.random.default_rng(seeds), method.members) for seeds in trial_seeds])
        traces = []
        for first in range(0, steps, _CHUNK):
            seen = [imagine(np.random.default_rng([*seeds, 1 + first]), method, _CHUNK) for seeds in trial_seeds]
            tables, trace = _learn(tables, jax.tree.map(lambda *each: np.stack(each), *seen), method)
            traces.append(jax.device_get(trace))
            advanced(method.label, min(_CHUNK, steps - first))
        loss, measured = jax.tree.map(lambda *parts: np.concatenate(parts, 1)[:, :steps], *traces)
        losses.append(loss)
        if method.weighted:
            diagnostics[name] = measured
    return Study(seed, np.stack(losses), diagnostics)


def check(seed: int, trials: int, steps: int) -> None:
    """Raises `UserError` unless a study can be made of these."""
    if not 0 <= seed < 2**31:
        raise UserError(f"seed must be a whole number from 0 to {2**31 - 1}, not {seed}")
    for name, count, most in (("trials", trials, 1000), ("steps", steps, 100_000)):
        if not 1 <= count <= most:
            raise UserError(f"{name} must be a whole number from 1 to {most}, not {count}")


def first_tables(rng: np.random.Generator, members: int) -> Float[np.ndarray, "members state"]:
    """Uniform whole numbers from 0 to 100; the terminal state is worth 0."""
    values = rng.integers(0, TERMINAL, (members, TERMINAL + 1)).astype(np.float32)
    values[:, TERMINAL] = 0
    return values


def imagine(rng: np.random.Generator, method: Method, steps: int) -> Experience:
    """A uniform state for every step and member, and what follows: `[steps members ...]`. It needs no table."""
    state = rng.integers(0, TERMINAL, (steps, method.members, 1), dtype=np.int32)
    at = [np.repeat(state, method.rollouts, -1)]
    at.append(at[0] + 1)
    for _ in range(method.horizon):
        at.append(noisy_step(rng, at[-1], method.noise))
    visited = np.stack(at, 2)
    return Experience(state[..., 0], visited[:, :, 1:], _REWARDS[visited[:, :, :-1]].cumsum(2))


def noisy_step(rng: np.random.Generator, state: Int[np.ndarray, "..."], noise: float) -> Int[np.ndarray, "..."]:
    """Where the model leads; the true chain if `noise` is 0. The terminal state leads to itself."""
    following = np.minimum(state + 1, TERMINAL)
    if not noise:
        return following
    jumps = (rng.random(state.shape, np.float32) < noise) & (state < TERMINAL)
    return np.where(jumps, rng.integers(0, TERMINAL, state.shape, dtype=np.int32), following)


@partial(jax.jit, static_argnames="method")
def _learn(
    tables: Float[Array, "trial members state"], seen: Experience, method: Method
) -> tuple[Float[Array, "trial members state"], tuple[Float[Array, "trial chunk"], Diagnostics]]:
    """The tables after `_CHUNK` more steps, the loss and the diagnostics after each of them."""
    return jax.vmap(partial(jax.lax.scan, partial(_step, method=method)))(tables, seen)


def _step(
    tables: Float[Array, "members state"], seen: Experience, method: Method
) -> tuple[Float[Array, "members state"], tuple[Float[Array, ""], Diagnostics]]:
    """One training step: the members in order, each with what was written before it."""
    update = partial(update_member, method=method)
    tables, measured = jax.lax.scan(update, tables, (jnp.arange(method.members), seen))
    loss = jnp.square(jnp.arange(TERMINAL) - tables.mean(0)[:TERMINAL]).mean()
    return tables, (loss, jax.tree.map(lambda x: x.mean(), measured))


def update_member(
    tables: Float[Array, "members state"], turn: tuple[Int[Array, ""] | int, Experience], method: Method
) -> tuple[Float[Array, "members state"], Diagnostics]:
    """Write a member's target in its table; the values looked up are those of all members."""
    member, seen = turn
    samples = seen.earned + tables[:, seen.ends]  # [members, candidate, rollout]
    estimates = samples.mean((0, 2))
    last = jnp.zeros(method.horizon + 1).at[-1].set(1.0)
    weights = steve_weights(samples.var((0, 2))) if method.weighted else last
    target = weights @ estimates
    errors, error = jnp.square(estimates - seen.state), jnp.square(target - seen.state)
    wins = (error < errors[0]).astype(jnp.float32)
    measured = Diagnostics(errors[0], errors[-1], error, errors.min(), wins, 1 - weights[0])
    return tables.at[member, seen.state].set(target), measured


def steve_weights(variances: Float[Array, "candidate"]) -> Float[Array, "candidate"]:
    """Proportional to 1 / (variance + 1e-8), of sum 1."""
    confidence = 1 / (variances + 1e-8)
    return confidence / confidence.sum()


def first_below(losses: Float[np.ndarray, "trial step"], level: float) -> int | None:
    """The first step after which the mean over trials is less than `level`; None if there is none."""
    below = losses.mean(0) < level
    return int(below.argmax()) if below.any() else None


def table(study: Study) -> str:
    """Mean losses over the trials at a few steps, when they first are small, and how much STEVE uses its model."""
    last = study.losses.shape[-1] - 1
    rows = [["step", *(method.label for method in METHODS.values())]]
    for step in sorted({*(step for step in _ROWS if step < last), last}):
        rows.append([str(step), *(_brief(loss) for loss in study.losses[:, :, step].mean(1).tolist())])
    for level in (100.0, 10.0):
        firsts = [first_below(losses, level) for losses in study.losses]
        rows.append([f"first below {level:g}", *("never" if first is None else str(first) for first in firsts)])
    lines = [f"{row[0]:15}" + "".join(f"{cell:>14}" for cell in row[1:]) for row in rows]
    for name, found in study.diagnostics.items():
        use = found.model_use.mean(0)
        lines.append(f"model use of {METHODS[name].label}: {use[0]:.2f} at first, {use[-1]:.2f} at last")
    return "\n".join(lines)


def _brief(loss: float) -> str:
    return f"{loss:.0f}" if loss >= 10 else f"{loss:.2f}"


def prepare(out: Path) -> None:
    """Make the directory and see that it can be written to. Raises `UserError` if not."""
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=out).close()


def write_study(study: Study, out: Path) -> list[Path]:
    """The figure, each method's losses and STEVE's diagnostics; the paths. Raises `UserError` if the disk refuses.

    `<method>.csv` has a line `step,step,step,loss` per step and trial and no header, like the released code's files.
    `<method>_diagnostics.csv` has a header and a line per step, means over the trials.
    """
    prepare(out)
    draw_study(study, out / "toy.png")
    paths = [out / "toy.png"]
    for name, losses in zip(METHODS, study.losses, strict=True):
        trials, steps = losses.shape
        step = np.repeat(np.arange(steps), trials)
        paths.append(out / f"{name}.csv")
        _write_rows(paths[-1], [step, step, step, losses.T.ravel()], "%d,%d,%d,%.6g")
    for name, found in study.diagnostics.items():
        means = [values.mean(0) for values in found]
        paths.append(out / f"{name}_diagnostics.csv")
        header = ",".join(("step", *Diagnostics._fields))
        _write_rows(paths[-1], [np.arange(len(means[0])), *means], "%d" + ",%.6g" * len(means), header)
    return paths


def _write_rows(path: Path, columns: Sequence[Array | np.ndarray], layout: str, header: str = "") -> None:
    with writing(path):
        np.savetxt(path, np.stack(columns, 1), layout, header=header, comments="")


def draw_study(study: Study, path: Path) -> None:
    """Loss over steps as a PNG: mean and standard deviation over the trials. Raises `UserError`."""
    from matplotlib.figure import Figure  # slow to import, and needed at the end alone

    figure = Figure(figsize=(7, 4.4), dpi=130, layout="constrained")
    axes = figure.subplots()
    for method, losses in zip(METHODS.values(), study.losses, strict=True):
        steps = np.unique(np.linspace(0, losses.shape[1] - 1, 400, dtype=int))  # so few that dots stay apart
        mean, deviation = losses.mean(0)[steps], losses.std(0)[steps]
        style = ":" if method.noise else "-"
        axes.plot(steps, mean, style, color=method.colour, lw=2.0 if method.noise else 1.6, label=method.label)
        axes.fill_between(steps, mean - deviation, mean + deviation, color=method.colour, alpha=0.15, lw=0)
    axes.set(title=f"values of a chain, seed {study.seed}", xlabel="training step", ylabel="mean squared error")
    axes.set_ylim(bottom=0)
    axes.margins(x=0)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    with writing(path):
        figure.savefig(path)
