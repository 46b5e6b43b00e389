"""A run in which acting, learning and evaluation do not wait for each other (`train.free_running`).

The main process distributes results: steps to the learners, the model to the values learner, the policy to actors and
evaluators. It handles results in the order in which they arrive, so the result of the run depends on the speed of the
machine.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import jax
import numpy as np

from foretell.agents.base import Extras, State
from foretell.envs import Episodes, empty_episodes
from foretell.output import say
from foretell.remote.failures import MOST, given_up, lost, mistake
from foretell.remote.free_actors import FreeActor, shares
from foretell.remote.free_halves import FreeHalf, joined, on_host
from foretell.remote.free_processes import BLOCK, Block
from foretell.training import clock
from foretell.training.clock import Kind
from foretell.training.events import Callback, RunInfo
from foretell.training.interrupt import interrupt_calls
from foretell.training.learner import stored
from foretell.training.loop import Loop
from foretell.training.programs import Later, whole
from foretell.training.resumption import carried_on
from foretell.training.state import RunState, no_steps

_AHEAD = 4
"""Number of blocks, of all environments, by which acting may be ahead of learning."""
_TICK = 0.5
"""Seconds after which it is checked whether the user wants to stop, if no result arrives."""


class FreeLoop(Loop):
    """Drives one agent through one run. `Loop` can resume from its checkpoints, and the other way round."""

    def __init__(self, run: RunInfo, callbacks: Sequence[Callback], places: Any) -> None:
        """Prepare; `places` starts processes."""
        super().__init__(run, callbacks, places)
        self._start, self._runtime = places.starter(run), places.runtime
        self._store = jax.jit(stored, donate_argnums=0)
        self._waiting: dict[Any, tuple[Any, Callable[[Any], object]]] = {}
        """By requested result: the process that computes it, and the function that handles it."""
        self._spare: list[int] = []
        """Episode numbers that were assigned but not used."""
        self._finished: set[int] = set()
        self._failures = 0

    def run(self) -> None:
        with ExitStack() as stack:
            stack.callback(self._saver.close)
            stack.push(lambda failure, *_: self._report.training_ended(self.counters, failed=failure is not None))
            stack.enter_context(interrupt_calls(self._interruption.ask))
            self._report.training_started(self.state)
            self._begin()
            while not self._is_over():
                self._ask()
                self._take()
                if self._watch.since_saved > self._schedule.checkpoint_seconds:
                    self._save()
                self._check_interrupt()
            self._save()
            self.state = whole(self.state)

    def _begin(self) -> None:
        """Start the processes from the state of the run; unfinished episodes are dropped."""
        run, schedule = self.run_info, self._schedule
        rows = np.flatnonzero(self.state.episodes.number >= 0).tolist()
        lost_rows = dict.fromkeys(rows, False)
        self.state, dropped, _ = carried_on(self.state, lost_rows, run.task.spec.env_id, together=False)
        self._saver.dropped |= dropped
        self._finished = {*range(self.counters.begun)} - self._saver.dropped
        self._saver.prepare(self.state)
        self._none = self.state.without_metrics()._replace(
            episodes=empty_episodes(run.task.spec, schedule.environments)
        )
        self._saved, halves, start = on_host(self.state.agent), run.agent.halves(), self._start
        assert halves is not None
        names = ["values"] if halves.model is None else ["values", "model"]
        self._halves = {name: FreeHalf(name, start, run.agent.pretraining) for name in names}
        for half in self._halves.values():
            self._send_state(half)
        carry = on_host(whole(self.state.carry))
        self._actors = [
            FreeActor(start, f"actor {i}", n, _rows(carry, n), explore=True)
            for i, n in enumerate(shares(schedule.environments, self._runtime.actors))
        ]
        widths = shares(self._evaluator.width, self._runtime.evaluators) if self._evaluator.width else []
        self._evaluators = [
            FreeActor(start, f"evaluator {i}", n, _rows(carry, n), explore=False) for i, n in enumerate(widths)
        ]
        self._to_evaluate = 0
        self._due_before = self._due

    @property
    def _due(self) -> int:
        """Number of steps for which updates are due: all but the random ones."""
        return max(0, self.counters.env_steps - self._schedule.random_steps)

    def _is_over(self) -> bool:
        """Whether a callback has stopped the run, or all steps, updates and evaluations are done."""
        done, end = clock.progress(self._schedule, self.counters)
        if self._report.stopping is not None or done < end or self._busy(self._evaluators):
            return self._report.stopping is not None
        return not self._due or (self._behind() <= 0 and not self._evaluation_is_due())

    def _behind(self) -> int:
        """Number of steps for which the slower learner has not made its updates yet."""
        return self._due - self._due_before - min(half.steps for half in self._halves.values())

    def _busy(self, those: Sequence[Any]) -> list[Any]:
        """Those of them that are computing a result."""
        busy = {id(who) for who, _ in self._waiting.values()}
        return [one for one in those if id(one) in busy]

    def _ask(self) -> None:
        """Request something from every idle process, if there is anything to do."""
        learners = list(self._halves.values())
        busy = self._busy([*self._actors, *learners, *self._evaluators])
        for actor in self._actors:
            if actor not in busy:
                self._ask_to_act(actor)
        for half in learners:
            if half not in busy and self._may_learn(half):
                self._ask_to_learn(half)
        if self._evaluation_is_due() and not self._to_evaluate and not self._busy(self._evaluators):
            self._to_evaluate = self._schedule.eval_episodes - self.counters.evaluated
        for evaluator in self._evaluators:
            if self._to_evaluate and evaluator not in busy:
                self._ask_to_evaluate(evaluator, self._numbers(min(evaluator.count, self._to_evaluate)))

    def _ask_to_act(self, actor: FreeActor) -> None:
        """Request one more block, unless all steps are taken, or acting is too far ahead of learning."""
        schedule, steps = self._schedule, BLOCK * actor.count
        coming = self.counters.env_steps + sum(one.asked for one in self._busy(self._actors))
        random, policy = coming < schedule.random_steps, self._halves["values"].news
        left = (schedule.random_steps if random else clock.progress(schedule, self.counters)[1]) - coming
        ahead = self._behind() + coming - self.counters.env_steps
        if left <= 0 or (not random and (policy is None or ahead > _AHEAD * BLOCK * schedule.environments)):
            return
        actor.use(policy, self._halves["values"].renewals)
        answer = actor.collect(self._numbers(actor.count), min(steps, left), random=random)
        self._waiting[answer] = actor, partial(self._acted, actor, "random" if random else "train")

    def _ask_to_learn(self, half: FreeHalf) -> None:
        model = self._halves.get("model") if half.name == "values" else None
        renewals = model.renewals if model is not None else 0
        news, result = half.learn(model.news if model is not None else None)
        self._waiting[result] = half, partial(self._learned, half, news, renewals)

    def _ask_to_evaluate(self, evaluator: FreeActor, numbers: list[int]) -> None:
        self._to_evaluate -= len(numbers)
        evaluator.use(self._halves["values"].news, self._halves["values"].renewals)
        self._waiting[evaluator.play(numbers)] = evaluator, partial(self._evaluated, numbers)

    def _may_learn(self, half: FreeHalf) -> bool:
        """Whether the random steps are taken and, for the values learner, a first model has been published."""
        model = self._halves.get("model")
        waits = half.name == "values" and model is not None and model.news is None
        return self.counters.env_steps >= self._schedule.random_steps and not waits

    def _evaluation_is_due(self) -> bool:
        # No round is added at the end: it would be dropped by its place among the numbers, which are not in order here.
        due = clock.rounds_due(self._schedule, self.counters) > self.counters.rounds
        return due and self._halves["values"].news is not None

    def _numbers(self, count: int) -> list[int]:
        """Numbers for new episodes: first those that were not used, then new ones."""
        found, self._spare = self._spare[:count], self._spare[count:]
        more = [self.counters.begun + i for i in range(count - len(found))]
        self._count(begun=len(more))
        return found + more

    def _take(self) -> None:
        """Wait for a result and handle it; after half a second, return without one."""
        import ray

        ready, _ = ray.wait(list(self._waiting), timeout=_TICK)
        for answer in ready:
            who, then = self._waiting.pop(answer)
            try:
                found = ray.get(answer)
            except Exception as error:
                self._revive(who, error)
                continue
            self._failures = 0
            then(found)

    def _acted(self, actor: FreeActor, kind: Kind, block: Block) -> None:
        """Send a block to the learners, and report episodes that are over."""
        self._spare = sorted({*self._spare, *block.unused})
        count = int(block.steps.valid.sum())
        self.state = self.state._replace(replay=self._store(self.state.replay, block.steps))
        for half in self._halves.values():
            half.inbox.append(block.steps)
        before = self.counters
        self._watch.steps += count
        self._count(env_steps=count, new_steps=count, unsaved=1)
        if kind == "train":
            actor.member.used(self._halves["values"].renewals - actor.renewals)
        extras = {name: value for one in block.finished[-1:] for name, value in one.extras.items()}
        self._report.step_taken(self._events_state(), kind, block.under_way, None, None, extras)
        for one in block.finished:
            self._finished.add(int(one.episode.number[0]))
            self._end(one.episode, 0, "random" if one.random else "train", one.extras)
        if before.env_steps // self._schedule.log_every < self.counters.env_steps // self._schedule.log_every:
            self._write_metrics()

    def _learned(self, half: FreeHalf, news: Any, renewals: int, result: Any) -> None:
        half.learned(news, result)
        if half.name == "values":
            self._count(learned=1, new_steps=-self.counters.new_steps, unsaved=1)
            if "model" in self._halves:
                half.member.used(self._halves["model"].renewals - renewals)

    def _evaluated(self, numbers: Sequence[int], found: Any) -> None:
        episodes, _, extras = found
        for row, number in enumerate(numbers):
            self._finished.add(number)
            self._end(episodes, row, "eval", extras)
        self.state = self.state._replace(counters=clock.after_evaluation(self._schedule, self.counters))

    def _end(self, episodes: Episodes, row: int, kind: Kind, extras: Extras) -> None:
        """Count and report an episode that is over."""
        self._count(episodes=1, **clock.COUNTED.get(kind, {}))
        self._report.episode_ended(self._events_state(), kind, episodes, row, extras)

    def _write_metrics(self) -> None:
        """A row of means of both learners over their calls since the last row."""
        means = {name: value for half in reversed(self._halves.values()) for name, value in half.means().items()}
        if "critic_loss" in means:
            self._count(logged=1)
            self._report.learned(self._events_state(), means)

    def _events_state(self) -> RunState:
        """The state for callbacks; the agent's state is fetched only if one of them needs it."""
        return self.state._replace(agent=Later(self._learned_so_far))

    def _learned_so_far(self) -> State:
        """The current state of the agent; for a learner that has died, its state in the last checkpoint."""
        import ray

        found = {}
        for name, half in self._halves.items():
            try:
                found[name] = ray.get(half.member.handle.newest.remote())
            except Exception as error:
                if not lost(error):
                    raise mistake(error) from error
                found[name] = self._saved
        return joined(found)

    def _save(self) -> None:
        """Write a checkpoint. It does not contain unfinished episodes: a resumed run drops them."""
        agent = self._learned_so_far()
        self._saver.dropped = {*range(self.counters.begun)} - self._finished
        state = self._none._replace(agent=agent, replay=self.state.replay, counters=self.counters)
        lagging = (agent.acting,) * self._schedule.lag
        saved = self._saver.save(state._replace(lagging=lagging), self._watch.saved(), {})
        self.state, self._saved = self.state._replace(agent=agent, counters=saved.counters), agent

    def _revive(self, who: FreeActor | FreeHalf, error: Exception) -> None:
        """Restart a process that has died. Raises `UserError` after `MOST` failures in a row."""
        if not lost(error):
            raise mistake(error) from error
        self._failures += 1
        if self._failures > MOST:
            raise given_up([who.member.name], error) from error
        ways = "continues from the last checkpoint", "plays its episodes again", "drops its unfinished episodes"
        after = ways[0 if isinstance(who, FreeHalf) else 1 if who in self._evaluators else 2]
        say(f"{who.member.name} has died; it is restarted and {after}")
        if isinstance(who, FreeHalf):
            who.member.restart()
            self._send_state(who)
            return
        who.revive()
        if who in self._evaluators:
            self._to_evaluate += len(who.playing)
            self._spare += who.playing

    def _send_state(self, half: FreeHalf) -> None:
        """Let a learner begin with its state in the last checkpoint, and with all steps so far."""
        import ray

        half.begin(self._saved, ray.put(on_host(self.state.replay)), no_steps(self.run_info.task.spec, 1, 1))


def _rows(carry: Any, count: int) -> Any:
    """Zeros in the structure of the carry, for `count` environments."""
    return jax.tree.map(lambda a: np.zeros((count, *a.shape[1:]), a.dtype), carry)
