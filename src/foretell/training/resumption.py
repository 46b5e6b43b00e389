"""What becomes of the episodes under way when a run is resumed.

An episode continues if the environment repeats it, or if its physical state was restored. Otherwise it is dropped, and
the run continues from the last boundary of an episode.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from foretell.training import clock
from foretell.training.events import RunInfo
from foretell.training.interactor import Interacting
from foretell.training.saver import Saver
from foretell.training.state import RunState


def resumed(run: RunInfo, state: RunState, envs: Interacting, saver: Saver, warn: Callable[[str], None]) -> RunState:
    """Bring the environments to where their episodes were left, and drop episodes that cannot be continued.

    Args:
        run: the run.
        state: that of the checkpoint, or the first one.
        envs: what acts in new environments.
        saver: holds the physical states in the checkpoint; the numbers of dropped episodes are added to it.
        warn: is given each sentence for the user.
    """
    random = clock.kind_of_episode(run.schedule, state.counters) == "random"
    found = envs.repeat(state.episodes, saver.physics, random=random)
    together = run.schedule.steps_per_learning is None
    state, dropped, said = carried_on(state, found, run.task.spec.env_id, together=together)
    saver.dropped |= dropped
    for text in said:
        warn(text)
    return state


def carried_on(
    state: RunState, found: Mapping[int, bool], env_id: str, *, together: bool
) -> tuple[RunState, set[int], list[str]]:
    """The state of a resumed run, without episodes that cannot be continued.

    Args:
        state: that of the checkpoint; some of its arrays change in place.
        found: what `Environments.repeat` returned.
        env_id: the name of the environment.
        together: whether all environments begin and end their episodes together.

    Returns:
        The state, the numbers of the dropped episodes, and sentences for the user.
    """
    restored, lost = ([row for row, there in found.items() if there is kind] for kind in (True, False))
    here = "it continues from the physical state in the checkpoint"
    said = [f"{_not_repeated(state, row, env_id)}; {here}" for row in restored if not (lost and together)]
    if not lost:
        return state, set(), said
    dropped = np.flatnonzero(state.episodes.number >= 0).tolist() if together else lost
    numbers = {int(state.episodes.number[row]) for row in dropped}
    text, length = _not_repeated(state, lost[0], env_id), int(state.episodes.length[dropped].sum())
    before = state.counters.env_steps
    state = _without(state, dropped, together=together)
    kept = length - (before - state.counters.env_steps)
    which = f"episode {min(numbers)} is" if len(numbers) == 1 else f"episodes {_listed(numbers)} are"
    stay = f", but {'its' if len(numbers) == 1 else 'their'} {kept} steps stay in the data" if kept else ""
    return state, numbers, [*said, f"{text}; {which} dropped{stay}, and the run continues with a new episode"]


def _not_repeated(state: RunState, row: int, env_id: str) -> str:
    number, length = int(state.episodes.number[row]), int(state.episodes.length[row])
    return f"'{env_id}' did not repeat the first {length} steps of episode {number}"


def _listed(numbers: set[int]) -> str:
    *first, last = map(str, sorted(numbers))
    return f"{', '.join(first)} and {last}"


def _without(state: RunState, rows: Sequence[int], *, together: bool) -> RunState:
    """Without the episodes in these environments.

    If all of them began together, and the agent has not received any of their steps, these steps are dropped too: the
    run is where it was before the episodes began. Otherwise the steps stay in the data.
    """
    episodes, collected = state.episodes, state.collected
    steps, before = int(episodes.length[rows].sum()), int(collected.times) - int(episodes.length[rows].max())
    counters = state.counters.plus(under_way=-len(rows), under_way_steps=-steps)
    if together and before >= 0:
        collected.shorten(before)
        counters = counters.plus(env_steps=-steps, new_steps=-steps)
    for row in rows:
        collected.end(row)
        episodes.clear(row)
    return state._replace(counters=counters)
