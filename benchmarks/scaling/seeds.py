"""Environment steps and updates per second of several seeds of one preset: as one program, as processes, on Ray."""

import tempfile
from pathlib import Path

from foretell.experiments.plan import make_plan
from scaling.watching import Watch, steps_and_updates
from scaling.ways import execute, members, ways


def measure(preset: str, env: str, settings: list[str], counts: list[int]) -> list[dict]:
    """A row for each way and number of seeds, all of which are trained at the same time."""
    rows = []
    for count in counts:
        for way, executor in ways(count).items():
            plan = make_plan([preset], env=env, seeds=count, overrides=settings)
            with tempfile.TemporaryDirectory() as folder:
                runs = members(plan, Path(folder))
                with Watch([run.path for run in runs]) as watch:
                    execute(executor, runs)
                counted = {run: steps_and_updates(run) for run in watch.runs}
                steps, updates = ({run: pair[i] for run, pair in counted.items()} for i in (0, 1))
                rates = watch.rates(steps=steps, updates=updates)
            rows.append({"seeds": count, "way": way, **rates, "start s": watch.start, "total s": watch.seconds})
    return rows
