"""Studies whose runs are written instead of trained."""

import signal
from functools import partial
from pathlib import Path

from foretell.experiments.executor import Ended, run_locally
from foretell.experiments.plan import make_plan
from foretell.runs.directory import RunDirectory
from tiny import LINE, TINY_SET

SETS = TINY_SET[1:]


def plan(*names, **asked):
    """A plan of tiny runs on the line."""
    asked = {"env": LINE, "seeds": 2, **asked}
    return make_plan(
        list(names) or ["pets/default", "pets/default+ds"], overrides=[*SETS, *asked.pop("sets", ())], **asked
    )


def write_run(member, returns=(0.0, 1.0), *, kind="train", wall=8.0):
    """A run directory with a random episode and some more of five steps each."""
    member.path.mkdir(parents=True, exist_ok=True)
    RunDirectory(member.path).write_config(member.arm.settings, member.arm.preset, member.seed)
    lines = ["episode,env_steps,kind,return,length,wall_seconds", "0,5,random,-9,5,1.0"]
    lines += [f"{i},{5 * (i + 1)},{kind},{value},5,{wall}" for i, value in enumerate(returns, 1)]
    (member.path / "episodes.csv").write_text("\n".join(lines) + "\n")


class Runner:
    """Stands in for `run_one`: writes the run; fails or presses Ctrl-C when asked to."""

    def __init__(self, *, fails=(), interrupts_at=None):
        self.fails, self.interrupts_at, self.ran = set(fails), interrupts_at, []

    def __call__(self, member, cores, stop):
        self.ran.append((member.arm.label, member.seed))
        if len(self.ran) == self.interrupts_at:
            signal.raise_signal(signal.SIGINT)
            assert stop.wait(5)
            write_run(member, [0.0])
            return Ended(member, 130)
        if (member.arm.label, member.seed) in self.fails:
            return Ended(member, 1, "ValueError: it diverged")
        write_run(member, [member.seed, member.seed + 1.0])
        return Ended(member, 0)

    @property
    def executor(self):
        return partial(run_locally, slots=[(0,)], run=self, tick=0.01)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
