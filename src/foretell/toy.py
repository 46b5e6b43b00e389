"""The tabular toy study of STEVE: values learned on a chain whose true values are known.

Buckman et al. 2018, "Sample-Efficient Reinforcement Learning with Stochastic Ensemble Value Expansion", figure 1. The
states are 0 to 100 and a terminal one. The only action leads from s to s + 1. The reward is -1, and 100 for the step
from state 100. Nothing is discounted, so the value of s is s. The true model, which the paper calls the oracle, is the
chain itself. The noisy model jumps with probability 0.1 to any of the states 0 to 100; its rewards are right for the
state before the step.

Arrays are float32; losses and errors are squares of values. Random draws are NumPy's, from the seed and counters.
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
from foretell.runs.directory import check_folder, writing

TERMINAL = 101
_REWARDS = np.r_[np.full(TERMINAL - 1, -1.0), 100.0, 0.0].astype(np.float32)
_CHUNK = 500  # steps per call of the compiled program
_ROWS = (0, 100, 500, 1000, 2000, 3000, 5000, 7500, 9999)


class Method(NamedTuple):
    """How a target is computed: `horizon` steps of the model after the real step, in `rollouts` parallel rollouts."""

    label: str
    colour: str
    members: int = 8
    """Q tables; each is updated once per step."""
    horizon: int = 5
    rollouts: int = 1
    noise: float = 0.0
    """Probability that a step of the model is a jump."""
    weighted: bool = False
    """Whether the target is STEVE's weighted mean of all candidates; else it is that of the longest horizon."""


FIGURE = "toy.png"
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
    """Share of updates whose target is nearer to the true value than the one-step candidate."""
    model_use: Float[Array | np.ndarray, "..."]
    """Total weight of the candidates that use the model."""


class Study(NamedTuple):
    """What was measured; experiments are in the order of `METHODS`."""

    seed: int
    losses: Float[np.ndarray, "experiment trial step"]
    """Mean over s = 0..100 of (s - mean of the tables at s)^2, after each step."""
    diagnostics: dict[str, Diagnostics]
    """Of the two STEVE runs, by name; arrays `[trial step]`."""


class Experience(NamedTuple):
    """A state, the real step from it and the model's rollouts from there; candidate j takes j steps of the model."""

    state: Int[Array | np.ndarray, "..."]
    ends: Int[Array | np.ndarray, "... candidate rollout"]
    """The state whose value each candidate adds."""
    earned: Float[Array | np.ndarray, "... candidate rollout"]
    """Sum of the rewards before that state."""


def run_study(
    *, seed: int = 0, trials: int = 10, steps: int = 10_000, advanced: Callable[[str, int], None] = lambda *_: None
) -> Study:
    """All six experiments. A trial depends on the seed alone, not on the number of trials or steps.

    Args:
        seed: random seed.
        trials: repetitions of each experiment.
        steps: training steps.
        advanced: called with a method's label and the number of steps it has taken since the last call.

    Raises:
        UserError: if the arguments are out of range.
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
    """Raises `UserError` unless the arguments are in range."""
    if not 0 <= seed < 2**31:
        raise UserError(f"seed must be a whole number from 0 to {2**31 - 1}, not {seed}")
    for name, count, most in (("trials", trials, 1000), ("steps", steps, 100_000)):
        if not 1 <= count <= most:
            raise UserError(f"{name} must be a whole number from 1 to {most}, not {count}")


def first_tables(rng: np.random.Generator, members: int) -> Float[np.ndarray, "members state"]:
    """Initial tables: uniform whole numbers from 0 to 100; the value of the terminal state is 0."""
    values = rng.integers(0, TERMINAL, (members, TERMINAL + 1)).astype(np.float32)
    values[:, TERMINAL] = 0
    return values


def imagine(rng: np.random.Generator, method: Method, steps: int) -> Experience:
    """A uniformly random state for every step and member, and the rollouts from there: `[steps members ...]`."""
    state = rng.integers(0, TERMINAL, (steps, method.members, 1), dtype=np.int32)
    at = [np.repeat(state, method.rollouts, -1)]
    at.append(at[0] + 1)
    for _ in range(method.horizon):
        at.append(noisy_step(rng, at[-1], method.noise))
    visited = np.stack(at, 2)
    return Experience(state[..., 0], visited[:, :, 1:], _REWARDS[visited[:, :, :-1]].cumsum(2))


def noisy_step(rng: np.random.Generator, state: Int[np.ndarray, "..."], noise: float) -> Int[np.ndarray, "..."]:
    """The next states in the model, which is the true one if `noise` is 0. The terminal state leads to itself."""
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
    """One training step: the members are updated in order, each with the tables that the previous ones have left."""
    update = partial(update_member, method=method)
    tables, measured = jax.lax.scan(update, tables, (jnp.arange(method.members), seen))
    loss = jnp.square(jnp.arange(TERMINAL) - tables.mean(0)[:TERMINAL]).mean()
    return tables, (loss, jax.tree.map(lambda x: x.mean(), measured))


def update_member(
    tables: Float[Array, "members state"], turn: tuple[Int[Array, ""] | int, Experience], method: Method
) -> tuple[Float[Array, "members state"], Diagnostics]:
    """Write a member's target to its table. Targets use the values of all members.

    Args:
        tables: of all members.
        turn: the member, and its experience.
        method: how the target is computed.
    """
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
    """Weights proportional to 1 / (variance + 1e-8), with a sum of 1."""
    confidence = 1 / (variances + 1e-8)
    return confidence / confidence.sum()


def first_below(losses: Float[np.ndarray, "trial step"], level: float) -> int | None:
    """The first step after which the mean over trials is less than `level`; None if there is none."""
    below = losses.mean(0) < level
    return int(below.argmax()) if below.any() else None


def table(study: Study) -> str:
    """A table: mean losses at a few steps, when they fall below a level, and the weight that STEVE gives its model."""
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
    """Make the directory. Raises `UserError` if it cannot be written to, or holds something else."""
    check_folder(out, [FIGURE, *(f"{name}.csv" for name in METHODS)])
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=out).close()


def write_study(study: Study, out: Path) -> list[Path]:
    """Write the figure, the losses of each method and the diagnostics of STEVE. Raises `UserError` if that fails.

    `<method>.csv` has a row `step,step,step,loss` per step and trial and no header, as in the released code's files.
    `<method>_diagnostics.csv` has a header and a row per step, with means over the trials.

    Args:
        study: the results.
        out: the directory.

    Returns:
        The paths.
    """
    prepare(out)
    draw_study(study, out / FIGURE)
    paths = [out / FIGURE]
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
    """Draw the loss over steps as a PNG: mean and standard deviation over the trials. Raises `UserError`."""
    from matplotlib.figure import Figure  # slow to import, and only needed at the end

    figure = Figure(figsize=(7, 4.4), dpi=130, layout="constrained")
    axes = figure.subplots()
    for method, losses in zip(METHODS.values(), study.losses, strict=True):
        steps = np.unique(np.linspace(0, losses.shape[1] - 1, 400, dtype=int))  # few enough for dotted lines
        mean, std = losses.mean(0)[steps], losses.std(0)[steps]
        style = ":" if method.noise else "-"
        axes.plot(steps, mean, style, color=method.colour, lw=2.0 if method.noise else 1.6, label=method.label)
        axes.fill_between(steps, mean - std, mean + std, color=method.colour, alpha=0.15, lw=0)
    axes.set(title=f"values of a chain, seed {study.seed}", xlabel="training step", ylabel="mean squared error")
    axes.set_ylim(bottom=0)
    axes.margins(x=0)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    with writing(path):
        figure.savefig(path)
