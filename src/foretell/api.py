"""The Python interface: `train`, `resume`, `load` and `film`. The command line calls it too."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, SupportsIndex

from foretell.agents import Agent, RunSettings
from foretell.agents.base import State
from foretell.callbacks import default_callbacks, load_best, load_model, model_path, warn
from foretell.compilation import compute_inline, prepare_jax
from foretell.errors import UserError
from foretell.output import say
from foretell.remote.places import make_loop, places
from foretell.remote.settings import Ray, check
from foretell.report.video import choose_renderer, film_finished
from foretell.run import Run, within_memory
from foretell.runs import arguments
from foretell.runs.arguments import Overrides
from foretell.runs.auto import decide
from foretell.runs.checkpoint import Checkpoints, latest_notes
from foretell.runs.continuing import check_continues, notes_of, read_notes
from foretell.runs.directory import RunDirectory
from foretell.runs.given import Env, arguments_again, chosen_settings, functions_again, functions_of
from foretell.runs.presets import continued, default_directory, preset_label, resolve, seed_of, title
from foretell.runs.trust import opens_runs, unkept
from foretell.tasks import Task, TaskSettings, make_task
from foretell.tasks.base import RewardFn, TerminatedFn
from foretell.tasks.check import examine
from foretell.tasks.sources import given
from foretell.training.controller import Controller
from foretell.training.events import Callback, RunInfo, check_callbacks
from foretell.training.interrupt import Interrupted
from foretell.training.loop import Loop
from foretell.training.pretraining import Stage, pretrained, stages_of, supplied, to_replace
from foretell.training.state import init_run


@within_memory()
@opens_runs
def train(
    preset: str | Path,
    *,
    seed: SupportsIndex | None = None,
    out: str | Path | None = None,
    env: Env | None = None,
    env_options: Mapping[str, Any] | None = None,
    reward: RewardFn | str | None = None,
    terminated: TerminatedFn | str | None = None,
    overrides: Overrides = (),
    callbacks: Sequence[Callback] = (),
    runtime: Ray | None = None,
    overwrite: bool = False,
    quiet: bool = False,
    trust: bool = False,
) -> Run:
    """Train a preset to its end and return the run.

    Where `train.pretrained` names a preset, that stage comes first, in `<out>-<preset-with-dashes>`: it is trained with
    its own settings, continued, or taken as it is if it has finished.

    Args:
        preset: a preset's name with parts, as `pets/cartpole+de+ts1`, the path of a YAML file, or `auto`, which chooses
            a preset for the environment.
        seed: one seed, one result; by default 0, or the seed that the file names.
        out: the run directory itself; by default `runs/<preset-with-dashes>/<seed>`, with the environment between them
            where the preset leaves it open.
        env: a name (see `task.env`), a class, a function that makes an environment, an `EnvSpec`, or an environment,
            of which copies are used. What has no name that can be imported must be given to `resume`, `load` and `film`
            again.
        env_options: arguments of the environment, `task.options`.
        reward: a function of (obs, action, next_obs) on arrays `[..., n]`, or its `module:function`. A function that
            cannot be imported by that name must be given to `resume` and `load` again.
        terminated: likewise, whether a step ends the episode.
        overrides: settings on top of the preset, as `{"planner": {"population": 200}}`, `{"planner.population": 200}`
            or `"planner.population=200"`, or several of these in order.
        callbacks: called as the run goes on, after those that Foretell brings.
        runtime: how to spread the run over processes of Ray; None: this process. The result is the same.
        overwrite: replace the run that is there.
        quiet: print nothing.
        trust: run code that a run of others names, if the preset is its `config.yaml` or `train.pretrained` is it.

    Raises:
        UserError: for every mistake, before anything is written.
    """
    preset = arguments.preset_name(preset)
    seed = arguments.seed_number(seed_of(preset) if seed is None else seed)
    arguments.switch(overwrite=overwrite, quiet=quiet, trust=trust)
    check_callbacks(callbacks)
    environment = None if env is None else given(env)
    functions = functions_of(environment, reward, terminated)
    chosen = chosen_settings(environment, env_options, functions)
    preset, changes, decision = decide(preset, [chosen, *arguments.overrides(overrides)], functions)
    if decision and not quiet:
        say(decision)
    settings = resolve(preset, changes)
    path = arguments.path("out", out) if out is not None else default_directory(preset, settings, seed)
    prepare_jax(on_cpu=runtime is not None)
    if settings.train.record:
        choose_renderer()
    task = make_task(settings.task, functions)
    agent = _build(settings, task)
    for text in examine(task, settings.task):
        if not quiet:
            warn(text)
    before = stages_of(settings, chosen, path)
    start = None if before else pretrained(settings, task, agent, seed, functions)
    label = preset_label(preset)
    info = _info(RunDirectory(path), label, seed, task, agent, settings)
    watching = [*default_callbacks(info, quiet=quiet), *callbacks]
    if runtime is not None:
        check(runtime, info)
    with (
        places(runtime, quiet=quiet) as elsewhere,
        (directory := RunDirectory.create(path, overwrite=overwrite)).lock(),
    ):
        replaced = to_replace(before, seed, overwrite=overwrite)
        directory.clear()
        directory.write_config(settings, label, seed, asked=[*chosen["task"]])
        if (directory.path / "code.json").exists() and (problem := unkept()):
            warn(problem)
        if before:
            settings = _after_stages(before, replaced, settings, seed, functions, path, quiet=quiet)
            start = pretrained(settings, task, agent, seed, functions)
            directory.write_config(settings, label, seed)
        info = _info(directory, label, seed, task, agent, settings)
        loop = make_loop(info, watching, elsewhere)
        if start is not None:
            loop.start_with(start)
        return _run_to_end(loop, settings, functions)


@within_memory()
@opens_runs
def resume(
    run_dir: str | Path,
    *,
    env: Env | None = None,
    reward: RewardFn | None = None,
    terminated: TerminatedFn | None = None,
    overrides: Overrides = (),
    callbacks: Sequence[Callback] = (),
    runtime: Ray | None = None,
    quiet: bool = False,
    trust: bool = False,
) -> Run:
    """Continue a run from its newest checkpoint to the end of its schedule, exactly as if it had never stopped.

    Of its settings only the section `train` may be changed, for instance to add trials; a finished run is left as it
    is. With `trust` it is continued even if it names code and is not one's own, and is one's own from then on. The
    other arguments are those of `train`. Raises `UserError`.
    """
    arguments.switch(quiet=quiet, trust=trust)
    check_callbacks(callbacks)
    functions = functions_again(env, reward, terminated)
    directory = RunDirectory.open(arguments.path("run_dir", run_dir))
    with directory.lock(), ExitStack() as stack:
        prepare_jax(on_cpu=runtime is not None)
        notes = read_notes(latest_notes(directory.checkpoints))
        lacking = notes.settings if notes else {}
        before, preset, seed = directory.read_config(unused=supplied(functions), lacking=lacking)
        settings = continued(before, arguments.overrides(overrides))
        warnings = check_continues(before, seed, directory, notes)
        if settings.train.record:
            choose_renderer()
        task = make_task(settings.task, functions)
        agent = _build(settings, task)
        if earlier := stages_of(settings, {"task": directory.asked(settings)}, directory.path):
            to_replace(earlier, seed, overwrite=False)
            settings = _after_stages(earlier, (), settings, seed, functions, directory.path, quiet=quiet)
        run = _info(directory, preset, seed, task, agent, settings)
        if runtime is not None:
            check(runtime, run)
        watching = [*default_callbacks(run, quiet=quiet), *callbacks]
        loop = make_loop(run, watching, stack.enter_context(places(runtime, quiet=quiet)))
        start = None if loop.has_checkpoint else pretrained(settings, task, agent, seed, functions)
        if start is not None:
            loop.start_with(start)
        loop.restore()
        for text in [] if quiet else warnings:
            warn(text)
        if settings != before or trust or (warnings and not loop.is_done):
            directory.write_config(settings, preset, seed)
        if not loop.is_done:
            return _run_to_end(loop, settings, functions)
        if not quiet:
            unit = "trials" if settings.train.steps is None else "steps"
            done = f"all {settings.train.steps or settings.train.trials} {unit} are done"
            say(f"already finished: {done}; for more, raise train.{unit}")
        return Run(directory, settings, seed, task, Controller(agent, loop.state.agent, task.spec), functions)


@within_memory()
@opens_runs
def load(
    run_dir: str | Path,
    *,
    trial: SupportsIndex | None = None,
    best: bool = False,
    env: Env | None = None,
    reward: RewardFn | None = None,
    terminated: TerminatedFn | None = None,
    quiet: bool = False,
    trust: bool = False,
) -> Run:
    """A run's agent, ready to act.

    Args:
        run_dir: the run directory.
        trial: the agent that acted in this trial, of a run with `train.save_all_models`; by default the newest.
        best: the best agent, of a run with `train.keep_best`.
        env: as for `train`, an environment that has no name that can be imported.
        reward: likewise, a function that cannot be imported by name.
        terminated: likewise.
        quiet: print no warnings.
        trust: run the code that the run's settings name, even if it is not one's own.

    Raises:
        UserError: if there is no such run or agent, or if it names code and is not one's own.
    """
    arguments.switch(best=best, quiet=quiet, trust=trust)
    trial = None if trial is None else arguments.whole_number("trial", trial, 1)
    functions = functions_again(env, reward, terminated)
    directory = RunDirectory.open(arguments.path("run_dir", run_dir))
    settings, _, seed = directory.read_config(unused=supplied(functions))
    compute_inline()
    prepare_jax()
    task = make_task(settings.task, functions)
    agent = _build(settings, task)
    state = _learned(directory, settings, task, agent, seed, trial=trial, best=best, quiet=quiet)
    return Run(directory, settings, seed, task, Controller(agent, state, task.spec), functions, trial)


@opens_runs
def film(
    run_dir: str | Path,
    episodes: SupportsIndex | Sequence[SupportsIndex] | None = None,
    *,
    env: Env | None = None,
    overlay: bool = False,
    trust: bool = False,
) -> Iterator[Path]:
    """Film finished episodes of a run by their numbers, or at numbers that are cubes; one video after the other.

    Each is repeated from its seed and its actions, random ones too. With `overlay`, step, return so far and action are
    written on the frames. `env` and `trust` are as for `load`. Raises `UserError`.
    """
    arguments.switch(overlay=overlay, trust=trust)
    episodes = None if episodes is None else arguments.numbers("episodes", episodes)
    functions = functions_again(env, None, None)
    directory = RunDirectory.open(arguments.path("run_dir", run_dir))
    settings, _, seed = directory.read_config(unused=("task.reward", "task.terminated", *supplied(functions)))
    where = TaskSettings(**settings.task.model_dump(exclude={"reward", "terminated"}))  # they are not needed to act
    choose_renderer()  # some environments read it when they are imported
    return film_finished(make_task(where, functions), directory, seed, episodes, warn, overlay=overlay)


def _learned(
    directory: RunDirectory,
    settings: RunSettings,
    task: Task,
    agent: Agent,
    seed: int,
    *,
    trial: int | None,
    best: bool,
    quiet: bool,
) -> State:
    """What an agent of the run has learned, read from where it is kept."""
    like, _ = init_run(agent, task.spec, settings.train, seed)
    if trial is not None and best:
        raise UserError("choose one: the agent of a trial, or the best")
    if trial is not None:
        return load_model(model_path(directory.models, trial), like.agent)
    if best:
        return load_best(directory, like.agent)
    with closing(Checkpoints(directory.checkpoints)) as checkpoints:
        return checkpoints.restore(like, lambda text: None if quiet else warn(text)).agent


def _run_to_end(loop: Loop, settings: RunSettings, functions: Mapping[str, Any]) -> Run:
    """Train to the end of the schedule."""
    loop.run()
    info = loop.run_info
    controller = Controller(info.agent, loop.state.agent, info.task.spec)
    return Run(info.directory, settings, info.seed, info.task, controller, functions)


def _after_stages(
    before: Sequence[Stage],
    replaced: Sequence[Stage],
    settings: RunSettings,
    seed: int,
    functions: Mapping[str, Any],
    out: Path,
    *,
    quiet: bool,
) -> RunSettings:
    """Bring the run of every stage to its end, each going on from the one before; the settings with the last one."""
    for stage in before:
        if not quiet:
            say(f"stage '{stage.preset}' in {stage.path}")
        try:
            if (stage.path / "config.yaml").is_file() and stage not in replaced:
                resume(stage.path, **arguments_again(functions), quiet=quiet)
            else:
                _train_stage(stage, seed, functions, quiet=quiet)
        except Interrupted as stop:
            raise Interrupted(f"{stop.place} of the stage '{stage.preset}'", out) from None
    schedule = settings.train.model_copy(update={"pretrained": str(before[-1].path)})
    return settings.model_copy(update={"train": schedule})


def _train_stage(stage: Stage, seed: int, functions: Mapping[str, Any], *, quiet: bool) -> None:
    """Train a stage from its beginning."""
    where = stage.settings.task.model_dump(include={"env", "options", "reward", "terminated"})
    overrides = {"task": where, "train": {"pretrained": stage.settings.train.pretrained}}
    again = arguments_again(functions)
    train(stage.preset, seed=seed, out=stage.path, overrides=overrides, overwrite=True, quiet=quiet, **again)


def _info(directory: RunDirectory, preset: str, seed: int, task: Task, agent: Agent, settings: RunSettings) -> RunInfo:
    return RunInfo(
        directory=directory,
        preset=preset,
        seed=seed,
        task=task,
        agent=agent,
        schedule=settings.train,
        title=title(preset, settings, seed),
        notes=notes_of(settings, seed),
    )


def _build(settings: RunSettings, task: Task) -> Agent:
    agent, train = settings.build(task), settings.train
    room = train.room(task.spec.horizon, agent.data) * train.environments
    if not room <= train.capacity < 2**31:
        raise UserError(
            f"train.capacity must be from {room} (the steps between two calls of learn) to {2**31 - 1}, "
            f"not {train.capacity}"
        )
    return agent
