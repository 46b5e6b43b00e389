"""Every metric that an agent logs is on its page, and every name on a page is one that is logged."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from foretell.replay import Trajectories, init_replay
from foretell.runs.presets import resolve
from foretell.tasks import make_task
from foretell.training.stopwatch import Stopwatch
from tiny import LINE, benchmark

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "docs" / "algorithms"
TINY = benchmark("tiny_runs")
OWN = {"task": {"env": LINE, "terminated": "learned"}}
EARLY = {"fit": {"holdout": 0.2, "early_stopping": True}}
POLICY = {"policy": {"hidden": [4]}}
AGENTS = {
    "pets": ("pets/default", [TINY.PLANNED, EARLY], "pets"),
    "gp": ("pets/cartpole+gp", [TINY.PROCESS], "pets"),
    "mbmpc": ("mbmpc/default", [TINY.SHOOTING, TINY.GUIDED], "mbmpc"),
    "imitation": ("mbmf/cheetah-imitation", [], "imitation"),
    "trpo": ("trpo/default", [POLICY], "trpo"),
    "steve-sac": ("steve/default+sac", [TINY.EXPANSION, TINY.STEPWISE], "steve"),
    "mve": ("mve/hc-5", [], "mve"),
    "dhmbpo": ("dhmbpo/default", [TINY.BRANCHED], "dhmbpo"),
    "mbpo": ("mbpo/default", [TINY.BRANCHED, {"model": {"members": 2, "elites": None}}], "mbpo"),
}
"""Preset, settings and page of each agent. Nothing is computed, so networks may be large."""
COMMON = {"learn", "episode", "env_steps", *Stopwatch().columns()}


def metrics_of(preset, changes):
    """The names of what `learn` returns; it is traced, but neither compiled nor run."""
    settings = resolve(preset, [*changes, *([OWN] if leaves_open(preset) else [])])
    task = make_task(settings.task)
    agent, spec = settings.build(task), task.spec
    state = jax.eval_shape(agent.init, jax.random.key(0))
    if agent.data == "replay":
        data = jax.eval_shape(lambda: init_replay(50, spec.obs_size, spec.action_size))
    else:
        data = jax.eval_shape(lambda: steps(8, settings.train.environments, spec.obs_size, spec.action_size))
    return {*jax.eval_shape(agent.learn, state, data, jax.random.key(0))[1]}


def leaves_open(preset):
    """Whether the preset chooses no environment."""
    return preset.partition("+")[0].endswith("/default")


def steps(count, environments, obs, action):
    rows = (count, environments)
    return Trajectories(
        obs=jnp.zeros((*rows, obs)), action=jnp.zeros((*rows, action)), reward=jnp.zeros(rows),
        next_obs=jnp.zeros((*rows, obs)), terminated=jnp.zeros(rows, bool), over=jnp.zeros(rows, bool),
        time=jnp.zeros(rows, jnp.int32), valid=jnp.ones(rows, bool),
    )  # fmt: skip


def columns(page, seen=()):
    """Patterns of the columns in the tables of a page's section on metrics, and of the pages that it links to."""
    text = (PAGES / f"{page}.md").read_text().partition("\n## Metrics\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`.*?) \|", text, re.M)
    own = [pattern(name) for cell in cells for name in re.findall(r"`([\w.]+)`", cell)]
    own += [r"weight_\d+"] if "`weight_0`, ..." in text else []
    linked = {*re.findall(r"\]\((\w+)\.md#", text)} - {page, *seen}
    return own + [one for other in sorted(linked) for one in columns(other, (*seen, page))]


def pattern(name):
    """`model_...` stands for all names that begin so."""
    return re.escape(name.removesuffix("...")) + (r"\w+" if name.endswith("...") else "")


@pytest.mark.long
@pytest.mark.parametrize("name", AGENTS)
def test_every_metric_of_an_agent_is_on_its_page(name):
    preset, changes, page = AGENTS[name]
    documented = columns(page)
    logged = metrics_of(preset, changes) | COMMON
    assert {one for one in logged if not any(re.fullmatch(known, one) for known in documented)} == set()


def test_every_name_on_a_page_is_in_the_code():
    source = "".join(path.read_text() for path in (ROOT / "src" / "foretell").rglob("*.py"))
    for page in PAGES.glob("*.md"):
        for name in columns(page.stem):
            word = re.sub(r"\\w\+|\\d\+|\d+$", "", name)
            parts = [word, word.removeprefix("imagined_"), word.removesuffix("_seconds")]
            assert any(part in source for part in parts), (page.name, word)
