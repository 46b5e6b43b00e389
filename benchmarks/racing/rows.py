"""The rows of the race: a workload with its settings, and the peers that can do the same."""

from fnmatch import fnmatch
from typing import Any, NamedTuple

from foretell.errors import UserError, nearest

SCRIPTS = {
    "mbrl-lib": "mbrl_lib_side.py",
    "rl-blox": "rl_blox_side.py",
    "torchrl": "torchrl_side.py",
    "sb3": "model_free_side.py",
    "sbx": "model_free_side.py",
}
"""The side of each peer, in `benchmarks/peers/`."""
LIBRARIES = {"sb3": "stable_baselines3", "sbx": "sbx", "mbrl-lib": "mbrl", "rl-blox": "rl_blox", "torchrl": "torchrl"}
"""What each peer is imported as."""
MODEL_FREE = ("sbx", "sb3")


HELP = "import runpy, sys; sys.argv[1:] = ['--help']; runpy.run_module('foretell', run_name='__main__')"


class Row(NamedTuple):
    """A line of the table."""

    name: str
    workload: str
    """The function in `racing/ours.py` and in the peers' sides."""
    settings: dict[str, Any]
    """Arguments of our side."""
    peers: tuple[str, ...] = ()
    theirs: dict[str, Any] = {}  # noqa: RUF012
    """Arguments of the peers' sides."""
    large: bool = False
    """Whether it is measured with `--all` alone, since it takes minutes."""

    def arguments(self, side: str) -> dict[str, Any]:
        """The settings of one side, `ours` or a peer."""
        return self.settings if side == "ours" else {"library": LIBRARIES[side], **self.theirs}


def rows() -> dict[str, Row]:
    """All rows by name, in the order of the table."""
    found = [*_plans(), *_fits(), *_updates(), *_runs(), *_latencies(), *_starts(), *_growth()]
    return {row.name: row for row in found}


def chosen(patterns: list[str], everything: bool) -> list[Row]:
    """The rows that match one of the patterns, or all but those of growth.

    Raises:
        UserError: a pattern matches no row.
    """
    known = rows()
    for pattern in patterns:
        if not any(fnmatch(name, pattern) for name in known):
            raise UserError(f"no row of the race is called '{pattern}'{nearest(pattern, known) or '; see --list'}")
    if not patterns:
        return [row for row in known.values() if not row.name.startswith("growth/") and (everything or not row.large)]
    matching = [row for row in known.values() if any(fnmatch(row.name, pattern) for pattern in patterns)]
    return [row for row in matching if everything or not row.large or row.name in patterns]


def _network(members: int, hidden: list[int], obs: int, actions: int) -> dict[str, Any]:
    return {"members": members, "hidden": hidden, "obs": obs, "actions": actions}


def _search(population: int, horizon: int, elites: int, iterations: int = 5) -> dict[str, Any]:
    return {"population": population, "horizon": horizon, "elites": elites, "iterations": iterations, "particles": 20}


def _plans() -> list[Row]:
    """One control step, at settings that all sides have."""
    three = ("rl-blox", "mbrl-lib", "torchrl")
    small = _network(5, [200, 200, 200], 4, 1)
    return [
        _plan("cartpole-paper", "pets/cartpole-paper", _network(5, [500] * 3, 4, 1), _search(400, 25, 40), three),
        _plan(
            "halfcheetah-paper", "pets/halfcheetah-paper", _network(5, [200] * 4, 18, 6), _search(500, 30, 50), three
        ),
        _plan("mbrl-lib", "pets/cartpole-paper", small, _search(350, 15, 35), three),
        _plan("rl-blox", "pets/cartpole-paper", small, _search(500, 15, 50), three),
        Row("plan/cartpole", "plan", {"preset": "pets/cartpole"}),
        Row("plan/halfcheetah", "plan", {"preset": "pets/halfcheetah"}),
    ]


def _plan(name: str, preset: str, network: dict[str, Any], search: dict[str, Any], peers: tuple[str, ...]) -> Row:
    """The preset with this network and search; the peers have the same sizes."""
    decay = [1e-4] * (len(network["hidden"]) + 1)
    planner = {key: search[key] for key in ("population", "horizon", "elites", "iterations")}
    model = {"members": network["members"], "hidden": network["hidden"], "weight_decay": decay}
    overrides = {"model": model, "planner": planner, "imagination": {"particles": search["particles"]}}
    return Row(f"plan/{name}", "plan", {"preset": preset, "overrides": overrides}, peers, {**network, **search})


def _fits() -> list[Row]:
    """Training 5 members of 3 x 200 units in batches of 32, for about as many gradient steps with any data."""
    return [_fit(rows, epochs) for rows, epochs in ((200, 50), (2_000, 5), (20_000, 1), (100_000, 1))]


def _fit(rows: int, epochs: int) -> Row:
    network = _network(5, [200] * 3, 4, 1)
    model = {"members": 5, "hidden": network["hidden"], "weight_decay": [1e-4] * 4}
    fit = {"epochs": epochs, "batch_size": 32}
    overrides = {"model": model, "fit": fit, "train": {"capacity": max(20_000, rows)}}
    ours = {"preset": "pets/cartpole-paper", "rows": rows, "overrides": overrides}
    return Row(f"fit/{rows}", "fit", ours, ("rl-blox", "mbrl-lib"), {**network, **fit, "rows": rows}, rows > 20_000)


def learner_overrides(env: str, per_call: int) -> dict[str, Any]:
    """The sizes of SBX, and as often an update, and a newer policy, as there."""
    return {
        "task": {"env": env},
        "learner": {"hidden": [256, 256], "batch_size": 256, "target_tau": 0.005},
        "updates": {"per_step": 1.0, "pretraining": 0, "sync_policy_every": 1},
        "train": {"steps_per_learning": per_call, "random_steps": 100, "eval_episodes": 0, "capacity": 5000},
    }


def _updates() -> list[Row]:
    """Updates and environment steps of actor-critic learners, one at a time and in blocks."""
    env, found = "HalfCheetah-v5", []
    for workload in ("update", "step"):
        for name in ("ddpg", "td3", "sac"):
            for count in (1, 20):
                ours = {"preset": f"{name}/default", "overrides": learner_overrides(env, count), "per_call": count}
                theirs = {"algorithm": name, "env": env, "per_call": count}
                if workload == "step":
                    ours, theirs = ({**side, "env": env, "block": 500} for side in (ours, theirs))
                peers = MODEL_FREE
                found.append(Row(f"{workload}/{name}/{count}", workload, ours, peers, theirs))
    settings = {"updates": {"pretraining": 0}, "train": {"random_steps": 100, "eval_episodes": 0, "capacity": 5000}}
    expanded = {"preset": "mve/hc-5", "overrides": settings, "env": "mve-cheetah", "block": 500}
    plain = {"algorithm": "ddpg", "env": env, "per_call": 100, "updates": 4, "hidden": [64, 64], "batch_size": 64}
    found.append(Row("step/mve/100", "step", expanded, ("sbx",), {**plain, "block": 500}))
    model_based = (("steve", "steve/halfcheetah"), ("mve", "mve/hc-5"))
    return found + [
        Row(f"update/{name}/{count}", "update", {"preset": preset, "per_call": count})
        for name, preset in model_based
        for count in (1, 20)
    ]


def _runs() -> list[Row]:
    """Whole runs: seconds from the start of a process to a return."""
    found = []
    sac = {"algorithm": "sac", "env": "Pendulum-v1", "threshold": -200.0, "steps": 20_000}
    for kind, cold in (("cold", True), ("warm", False)):
        cartpole = {"preset": "pets/cartpole", "threshold": 170.0, "cold": cold}
        pendulum = {"preset": "pets/default", "env": "Pendulum-v1", "threshold": -200.0, "cold": cold}
        found += [
            Row(f"run/cartpole/{kind}", "run", cartpole),
            Row(f"run/cartpole-whole/{kind}", "run", {"preset": "pets/cartpole", "cold": cold}),
            Row(f"run/pendulum/{kind}", "run", pendulum, ("sbx",), sac),
        ]
    return found


def _latencies() -> list[Row]:
    """`run.act` after warm-up."""
    env = {"env": "Pendulum-v1", "calls": 10_000}
    ours = [Row(f"act/{name}", "act", {"preset": f"{name}/default", **env}) for name in ("pets", "mbmpc")]
    return [*ours, Row("act/sac", "act", {"preset": "sac/default", **env}, MODEL_FREE, {"algorithm": "sac", **env})]


def _starts() -> list[Row]:
    """Processes that import a package."""
    first_use = "import foretell; foretell.train"
    return [
        Row("start/import", "start", {"code": "import foretell"}, tuple(LIBRARIES)),
        Row("start/first-use", "start", {"code": first_use}, tuple(LIBRARIES)),
        Row("start/help", "start", {"code": HELP}),
    ]


GROWTH: dict[str, tuple[str, str, tuple[int, ...]]] = {
    "particles": ("imagination", "particles", (5, 10, 20)),
    "population": ("planner", "population", (50, 100, 200, 400)),
    "horizon": ("planner", "horizon", (10, 20, 40)),
    "members": ("model", "members", (2, 5, 10)),
    "width": ("model", "hidden", (64, 128, 256, 512)),
    "environments": ("train", "environments", (1, 2, 5, 10)),
}
"""What a control step of `pets/halfcheetah` is measured at: section, key and values."""


def _growth() -> list[Row]:
    """Costs at several values of one setting, all others as they are."""
    found = []
    for name, (section, key, values) in GROWTH.items():
        for value in values:
            found.append(_grown(f"growth/plan/{name}/{value}", "plan", section, key, value))
    for key, values in (("members", (2, 5, 10)), ("width", (64, 200, 500)), ("batch_size", (32, 128, 512))):
        for value in values:
            found.append(
                _grown(f"growth/fit/{key}/{value}", "fit", "fit" if key == "batch_size" else "model", key, value)
            )
    for capacity in (20_000, 200_000, 1_000_000):
        ours = {"preset": "pets/cartpole", "rows": 200, "overrides": {"train": {"capacity": capacity}}}
        found.append(Row(f"growth/fit/capacity/{capacity}", "fit", ours))
    for rows in (200, 2_000, 20_000):
        overrides = {"fit": {"min_steps": 500, "max_steps": 500}}
        found.append(
            Row(f"growth/fit/rows/{rows}", "fit", {"preset": "pets/cartpole", "rows": rows, "overrides": overrides})
        )
    for batch in (64, 256, 1024):
        overrides = learner_overrides("HalfCheetah-v5", 20)
        overrides["learner"]["batch_size"] = batch
        ours = {"preset": "sac/default", "overrides": overrides, "per_call": 20}
        found.append(Row(f"growth/update/batch/{batch}", "update", ours))
    return found


def _grown(name: str, workload: str, section: str, key: str, value: int) -> Row:
    """The half-cheetah's plan, or the training of the cartpole's model, with one value of one setting."""
    preset = "pets/halfcheetah" if workload == "plan" else "pets/cartpole"
    setting = {"hidden": [value] * 3} if key in ("hidden", "width") else {key: value}
    overrides = {section: setting}
    if key == "members":
        overrides["imagination"] = {"particles": 10}
    more = {} if workload == "plan" else {"rows": 2_000}
    return Row(name, workload, {"preset": preset, "overrides": overrides, **more})
