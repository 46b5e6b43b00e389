"""Every mistake is one sentence on stderr, ends with 2 and leaves everything as it was."""

import numpy as np
import pytest

import foretell
from environments import STEPS
from foretell import registry
from foretell.errors import UserError
from foretell.runs.directory import RunDirectory
from tiny import LINE, TINY_SET, snapshot

ENV = "environments:tiny/"


ALL = "diagnose, eval, export, export-mat, film, inspect, plot, presets, random, report, resume, show, studies, study, "
ALL += "sweep, toy, train, watch"
COMMANDS = [
    ([], f"name a command; choose one of: {ALL}"),
    (["--quiet", "train"], f"no command '--quiet'; choose one of: {ALL}"),
    (["trian"], "no command 'trian'; did you mean 'train'?"),
    (["dance"], "no command 'dance'; did you mean 'diagnose'?"),
    (["train"], "name the preset to train; see `foretell presets`"),
    (["train", "pets/default", "again"], "foretell train does not take 'again'"),
    (
        ["train", "pets/default", "train.trials=3"],
        "foretell train does not take 'train.trials=3'; did you mean '--set train.trials=3'?",
    ),
    (["presets", "pets", "a=1"], "foretell presets does not take 'a=1'"),
    (["presets", "pest"], "no family 'pest'; did you mean 'pets'?"),
    (["train", "pets/default", "--sede", "3"], "foretell train does not take '--sede'; did you mean '--seed'?"),
    (["study", "pets/default", "--reward", "a:b"], "does not take '--reward'; say it as '--set task.reward=...'"),
    (["presets", "--json"], "foretell presets does not take '--json'"),
    (["train", "pets/default", "--seed"], "argument --seed: expected one argument"),
    (["resume"], "required: RUN_DIR; see `foretell resume --help`"),
    (["eval"], "required: RUN_DIR; see `foretell eval --help`"),
    (["export-mat"], "required: RUN_DIR; see `foretell export-mat --help`"),
    (["export-ma"], "no command 'export-ma'; did you mean 'export-mat'?"),
    (["export"], "required: RUN_DIR; see `foretell export --help`"),
    (["export-mat", "run", "--ot", "x.mat"], "foretell export-mat does not take '--ot'; did you mean '--out'?"),
]


@pytest.mark.parametrize(
    ("argv", "sentence"), COMMANDS, ids=lambda value: " ".join(value) or "-" if isinstance(value, list) else ""
)
def test_commands(argv, sentence, refused):
    assert sentence in refused(*argv)


PRESETS = [
    (["pets/cartpol"], "no preset 'pets/cartpol'; did you mean 'pets/cartpole'?"),
    (["pets/cartpole.yaml"], "no preset 'pets/cartpole.yaml'; did you mean 'pets/cartpole'?"),
    (["dreamer"], "no preset 'dreamer'; see `foretell presets`"),
    (["pets"], "no preset 'pets'; did you mean 'pets/default'?"),
    (["SAC"], "no preset 'SAC'; did you mean 'sac/default'?"),
    (["../cartpole"], "no preset '../cartpole'"),
    (["pets/default", "--seed", "one"], "argument --seed: invalid int value: 'one'"),
    (["pets/default", "--seed", "1.5"], "argument --seed: invalid int value: '1.5'"),
    (["pets/default", "--seed", "-1"], "seed must be a whole number from 0 to 2147483647, not -1"),
    (["pets/default", "--seed", str(2**31)], "seed must be a whole number from 0 to 2147483647, not 2147483648"),
    (["pets/default", "--seed", "9" * 30], "seed must be a whole number from 0 to 2147483647, not 999"),
]

SETTINGS = [
    ("foo", "--set takes key.path=value, not 'foo'"),
    ("=3", "--set takes key.path=value, not '=3'"),
    ("planner..horizon=3", "--set takes key.path=value, not 'planner..horizon=3'"),
    ("planner.=3", "--set takes key.path=value, not 'planner.=3'"),
    ("train.trials=[", "--set train.trials: '[' is not valid YAML"),
    ("description=2020-13-45", "--set description: '2020-13-45' is not valid YAML"),
    ("plannr.horizon=3", "no setting 'plannr'; did you mean 'planner'?"),
    (
        "zzz.horizon=3",
        "no setting 'zzz'; choose one of: agent, description, fit, imagination, model, planner, reward_fit, "
        "reward_model, task, train",
    ),
    (
        "planner.popluation=3",
        "no setting 'planner.popluation' with planner.kind=cem; did you mean 'planner.population'?",
    ),
    ("population=3", "no setting 'population'; did you mean 'planner.population'?"),
    ("horizon=3", "no setting 'horizon'; did you mean 'task.horizon' or 'planner.horizon'?"),
    ("fit.members=3", "no setting 'fit.members' with fit.kind=adam; did you mean 'model.members'"),
    ("planner.zzz=3", "no setting 'planner.zzz' with planner.kind=cem; `foretell show planner` lists them"),
    ("train.zzz=3", "no setting 'train.zzz'; `foretell show train` lists them"),
    ("planner=3", "'planner' is a section and cannot be 3; set one of planner.KEY=VALUE"),
    ("task=3", "'task' is a section and cannot be 3; set one of task.KEY=VALUE"),
    ("train=null", "'train' is a section and cannot be None; set one of train.KEY=VALUE"),
    ("planner.population.size=3", "planner.population={'size': 3}: input should be a valid integer"),
    ("planner.population=many", "planner.population='many': input should be a valid integer"),
    ("planner.population=1.5", "planner.population=1.5: input should be a valid integer"),
    ("planner.population=[6]", "planner.population=[6]: input should be a valid integer"),
    ("planner.population=0", "planner.population=0: input should be greater than 0"),
    ("planner.alpha=1", "planner.alpha=1: input should be less than 1"),
    ("planner.noise=white", "planner.noise='white': input should be 'truncated' or 'coloured'"),
    ("planner.population=1", "planner: elites (2) must not exceed population (1)"),
    ("planner.kept_elites=3", "planner: kept_elites (3) must not exceed elites (2)"),
    ("imagination.particles=3", "imagination.particles (3) must be a multiple of model.members (2)"),
    ("model.weight_decay=-1", "model.weight_decay=-1: input should be greater than or equal to 0"),
    ("model.weight_decay=[]", "model.weight_decay"),
    ("model.kind=gaussian", "no model.kind 'gaussian'"),
    ("planner.kind=cme", "no planner.kind 'cme'; did you mean 'cem'?"),
    ("planner.kind=no_such_module:Search", "planner.kind 'no_such_module:Search': cannot import 'no_such_module'"),
    ("planner.kind=environments:Line", "planner.kind 'environments:Line': 'environments' has no Planner 'Line'"),
    ("model.hidden=[]", "model"),
    ("model.hidden=[-8]", "model.hidden.0=-8: input should be greater than 0"),
    ("model.hidden=8", "model.hidden=8: input should be a valid list"),
    ("model.activation=sillu", "model.activation='sillu': input should be 'silu', 'relu', 'tanh' or 'gelu'"),
    ("model.scale_targets=3", "model.scale_targets=3: input should be a valid boolean"),
    ("fit={min_steps: 9, max_steps: 3}", "fit: max_steps (3) is below min_steps (9)"),
    ("fit.learning_rate=.nan", "fit.learning_rate=nan: input should be a finite number"),
    ("fit.learning_rate=.inf", "fit.learning_rate=inf: input should be a finite number"),
    ("fit.learning_rate=[1]", "fit.learning_rate=[1]: input should be a valid number"),
    ("agent=foo", "no agent 'foo'; choose one of: imitation, mbmpc, pets, policy-optimization, trpo, value-expansion"),
    ("agent=environments:Line", "agent 'environments:Line': 'environments' has no RunSettings 'Line'"),
    ("agent=[pets]", "no agent '['pets']'; did you mean 'pets'?"),
    ("train.capacity=3", "train.capacity must be from 5 (the steps between two calls of learn) to 2147483647, not 3"),
    (
        "train.capacity=9999999999",
        "train: capacity (9999999999) is not a number of 32 bits, which are up to 2147483647 in magnitude",
    ),
    ("model.hidden=[2147483648]", "model: hidden (2147483648) is not a number of 32 bits"),
    (
        "fit.learning_rate=1.0e+39",
        "fit: learning_rate (1e+39) must be 0 or from 1e-15 to 1e+15 in magnitude, since it is squared in",
    ),
    ("model.weight_decay=1.0e-39", "model: weight_decay (1e-39) must be 0 or from 1e-15 to 1e+15"),
    ("model.min_std=1.0e-30", "model: min_std (1e-30) must be 0 or from 1e-15 to 1e+15"),
    ("task.horizon=0", "task.horizon=0: input should be greater than 0"),
    ("task.action_noise=-1", "task.action_noise=-1: input should be greater than or equal to 0"),
    ("task.action_noise=.nan", "task.action_noise=nan: input should be a finite number"),
    ("task.action_noise=loud", "task.action_noise='loud': input should be a valid number"),
    ("task.action_bounds=[-1]", "task.action_bounds=[-1]: a value is missing"),
    ("task.options=3", "task.options=3: input should be a valid dictionary"),
    (
        "task.options={wrist_tip: true}",
        f"cannot make the environment '{LINE}': TypeError: Line.__init__() got an unexpected keyword argument",
    ),
    ("train.random_episodes=0", "train.random_episodes must be at least 1: 'pets' has to learn before it can act"),
    ("train.episodes_per_learning=0", "train.episodes_per_learning=0: input should be greater than 0"),
    ("train.stop_at_return=.inf", "train.stop_at_return=inf: input should be a finite number"),
    ("train.stop_at_return=high", "train.stop_at_return='high': input should be a valid number"),
    ("train.keep_best=often", "train.keep_best='often': input should be a valid boolean"),
    ("train.record=-1", "train.record=-1: input should be greater than or equal to 0"),
    ("train.record=all", "train.record='all': input should be a valid integer"),
    ("train.save_all_models=often", "train.save_all_models='often': input should be a valid boolean"),
    ("train.log_predictions=all", "train.log_predictions='all': input should be 'none', 'moments' or 'particles'"),
    ("train.pretrained=3", "train.pretrained=3: input should be a valid string"),
    ("train.pretrained=nowhere", "no run directory 'nowhere'"),
]

ENVIRONMENTS = [
    ("Pendulm", "no task 'Pendulm'; did you mean 'Pendulum-v1'?"),
    ("cartpol", "no task 'cartpol'; did you mean 'cartpole'?"),
    ("zzz", f"no task 'zzz'; choose one of: {', '.join(registry.kinds('task'))}, Id-v0, module:Id-v0"),
    ("pendulum-v1", "no Gymnasium environment 'pendulum-v1'; did you mean 'Pendulum-v1'?"),
    ("Pendulum-v9", "no Gymnasium environment 'Pendulum-v9'; did you mean 'Pendulum-v1'?"),
    ("Zzz-v0", "no Gymnasium environment 'Zzz-v0'; if a package of yours registers it, write 'package:Zzz-v0'"),
    (f"{ENV}Lin-v0", f"no Gymnasium environment '{ENV}Lin-v0'; did you mean '{LINE}'?"),
    ("no_such_module:X-v0", "env 'no_such_module:X-v0': cannot import 'no_such_module' (ModuleNotFoundError"),
    (f"{ENV}Unmakeable-v0", f"cannot make the environment '{ENV}Unmakeable-v0': ValueError: no robot is connected"),
    ("no_such_module:Robot", "env 'no_such_module:Robot': cannot import 'no_such_module' (ModuleNotFoundError"),
    (
        "environments:NeedArgument",
        "env 'environments:NeedArgument': 'environments' has nothing named 'NeedArgument'; did you mean 'Needs",
    ),
    ("environments:reward", "cannot make the environment 'environments:reward': TypeError: reward() missing 3"),
    (
        "environments:NeedsArgument",
        "env 'environments:NeedsArgument': the task cannot be made (TypeError: NeedsArgument.__init__() missing 1",
    ),
    (
        "environments:WithoutSpec",
        "env 'environments:WithoutSpec': the task must have a `spec`, a foretell.tasks.TaskSpec",
    ),
    ("CartPole-v1", "'CartPole-v1' has discrete actions (Discrete(2)), but Foretell's planners and policies choose"),
    (f"{ENV}WholeActions-v0", f"'{ENV}WholeActions-v0' has actions of type int8, but only real numbers are supported"),
    (f"{ENV}Unbounded-v0", f"'{ENV}Unbounded-v0' has unbounded actions, but planning needs finite bounds"),
    (
        f"{ENV}Image-v0",
        f"'{ENV}Image-v0' observes images ('obs' of shape (8, 8, 3)), but Foretell's models learn from states",
    ),
    (f"{ENV}Nothing-v0", f"'{ENV}Nothing-v0' has observations of shape (0,), which hold no numbers"),
]

FUNCTIONS = [
    (["--reward", "known"], "reward must be 'auto', 'learned' or 'module:function', not 'known'"),
    (["--reward", ":f"], "reward must be 'auto', 'learned' or 'module:function', not ':f'"),
    (["--reward", "none"], "reward must be 'auto', 'learned' or 'module:function', not 'none'"),
    (["--terminated", "maybe"], "terminated must be 'auto', 'learned', 'none' or 'module:function', not 'maybe'"),
    (
        ["--reward", "no_such_module:f"],
        "reward 'no_such_module:f': cannot import 'no_such_module' (ModuleNotFoundError",
    ),
    (["--reward", "environments:rewrad"], "'environments' has no function 'rewrad'; did you mean 'reward'?"),
    (["--reward", "environments:not_a_function"], "'environments' has no function 'not_a_function'"),
    (["--terminated", "environments:nevr"], "'environments' has no function 'nevr'; did you mean 'never'?"),
    (["--reward", "environments:raises"], "reward 'environments:raises' fails on arrays of shape [..., obs]"),
    (["--reward", "environments:branches"], "reward 'environments:branches' must use jax.numpy and no `if`"),
    (["--reward", "environments:uses_numpy"], "reward 'environments:uses_numpy' must use jax.numpy and no `if`"),
    (
        ["--reward", "environments:one_number"],
        "must return one value per row, shape (2, 3) for inputs of shape (2, 3, n)",
    ),
    (
        ["--reward", "environments:constant"],
        "must return one value per row, shape (2, 3) for inputs of shape (2, 3, n)",
    ),
    (
        ["--env", "reacher", "--set", "task.options={orignal_kinematics: true}"],
        "the task 'reacher' has no option 'orignal_kinematics'; did you mean 'original_kinematics'?",
    ),
    (
        ["--env", "cartpole", "--set", "task.options={fast: true}"],
        "the task 'cartpole' has no option 'fast'; it has none",
    ),
    (
        ["--env", f"{ENV}Blank-v0", "--set", "train.record=1"],
        f"cannot film '{ENV}Blank-v0' (NotImplementedError: it renders nothing as 'rgb_array')",
    ),
    (
        ["--env", "environments:Tunable", "--set", "task.horizon=9"],
        f"task.horizon is fixed at {STEPS} for 'environments:Tunable'; remove task.horizon",
    ),
]

BEFORE_A_RUN = [
    *((["train", *argv], sentence) for argv, sentence in PRESETS),
    *((["train", "pets/default", "--env", LINE, *TINY_SET, word], sentence) for word, sentence in SETTINGS),
    *((["train", "pets/default", "--env", env, *TINY_SET], sentence) for env, sentence in ENVIRONMENTS),
    *((["train", "pets/default", "--env", LINE, *TINY_SET, *argv], sentence) for argv, sentence in FUNCTIONS),
]


@pytest.mark.parametrize(("argv", "sentence"), BEFORE_A_RUN, ids=lambda value: value if isinstance(value, str) else "")
@pytest.mark.long
def test_nothing_is_written_before_a_mistake_in_the_arguments_is_told(argv, sentence, refused, tmp_path):
    assert sentence in refused(*argv, "--out", tmp_path / "run")
    assert not any(tmp_path.iterdir())


def test_predictions_are_of_a_learned_model(refused, tmp_path):
    planner = ["planner.horizon=2", "planner.population=6", "planner.elites=2", "planner.kept_elites=0"]
    more = ["--set", *planner, "train.log_predictions=moments", "--out", tmp_path / "run"]
    assert refused("train", "pets/default+true-model", "--env", LINE, *more) == (
        "train.log_predictions needs an agent that plans with a learned model; set it to none"
    )
    assert not any(tmp_path.iterdir())


def test_a_module_that_cannot_be_imported_is_named(refused, tmp_path, monkeypatch):
    (tmp_path / "halfwritten.py").write_text("def reward(obs, action, next_obs)\n")
    monkeypatch.chdir(tmp_path)
    sentence = refused("train", "pets/default", "--env", LINE, "--reward", "halfwritten:reward", *TINY_SET)
    assert sentence.startswith("reward 'halfwritten:reward': cannot import 'halfwritten' (SyntaxError: expected ':'")


# Where a run is to be.


def train_into(out, *more):
    return ["train", "pets/default", "--env", LINE, "--out", out, *TINY_SET, *more]


@pytest.mark.long
def test_a_run_is_not_replaced_unasked(run_copy, refused):
    before = snapshot(run_copy)
    sentence = refused(*train_into(run_copy))
    assert sentence == (
        f"'{run_copy}' already holds a run; continue it with `foretell resume {run_copy}`, "
        "replace it with --overwrite, or choose another --out"
    )
    assert snapshot(run_copy) == before


@pytest.mark.long
def test_a_run_is_not_replaced_by_one_that_cannot_begin(run_copy, refused):
    before = snapshot(run_copy)
    refused(*train_into(run_copy, "train.capacity=3", "--overwrite"))
    refused(*train_into(run_copy, "--reward", "environments:raises", "--overwrite"))
    assert snapshot(run_copy) == before


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
def test_what_is_not_a_run_is_never_replaced(overwrite, refused, tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    for out in (tmp_path, tmp_path / "thesis.tex"):
        assert refused(*train_into(out, *overwrite)) == (
            f"'{out}' is not empty and is not a run directory; choose another --out"
        )
    assert (tmp_path / "thesis.tex").read_text() == "mine"


@pytest.mark.parametrize("place", ["file/run", "/proc/x", "a" * 300])
def test_a_place_that_cannot_be_written(place, refused, tmp_path):
    (tmp_path / "file").touch()
    out = tmp_path / place
    assert refused(*train_into(out)).startswith(f"cannot write '{out}': ")


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_run_in_training_is_left_alone(overwrite, run_copy, refused):
    before = snapshot(run_copy)
    command = train_into(run_copy, "--overwrite") if overwrite else ["resume", run_copy]
    with RunDirectory(run_copy).lock():
        assert refused(*command) == f"'{run_copy}' is being trained by another process"
    assert snapshot(run_copy) == before


# The Python interface.


class Unread:
    """An object of another library that refuses to become an array."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("it is on another device")


@pytest.fixture(scope="module")
def agent(trained):
    return foretell.load(trained, quiet=True)


@pytest.mark.parametrize(
    ("obs", "sentence"),
    [
        (np.zeros(3), "an observation must have shape (2,) or (batch, 2), not (3,)"),
        (np.zeros((4, 3)), "an observation must have shape (2,) or (batch, 2), not (4, 3)"),
        (np.zeros((2, 2, 2)), "an observation must have shape (2,) or (batch, 2), not (2, 2, 2)"),
        (np.zeros((0, 2)), "an observation must have shape (2,) or (batch, 2), not (0, 2)"),
        (np.float64(0), "an observation must have shape (2,) or (batch, 2), not ()"),
        ("left", "an observation must be an array of numbers, not str"),
        (np.array([1j, 2.0]), "an observation must be an array of numbers, not ndarray"),
        (np.array([1.0, None]), "an observation must be an array of numbers, not ndarray"),
        (Unread(), "an observation must be an array of numbers, not Unread"),
        (np.ma.array([1.0, 2.0], mask=[False, True]), "the observation is not finite in 'obs[1]'"),
        ([[1.0, 2.0], [3.0]], "an observation must be an array of numbers, not list"),
        ([np.nan, 0.0], "the observation is not finite in 'obs[0]'"),
        ([[0.0, 0.0], [0.0, np.inf]], "the observation is not finite in 'obs[1]'"),
    ],
)
def test_an_observation_that_is_none(obs, sentence, agent):
    agent.reset()
    with pytest.raises(UserError) as mistake:
        agent.act(obs)
    assert str(mistake.value) == sentence


@pytest.mark.long
def test_a_batch_that_changes_size(agent):
    agent.reset()
    agent.act(np.zeros((2, 2)))
    with pytest.raises(UserError, match="a batch of 3 observations follows one of 2; call reset"):
        agent.act(np.zeros((3, 2)))


@pytest.mark.parametrize("mask", [[True], [True, False, True], [1, 0], [[True, False]], np.True_, "no"])
@pytest.mark.long
def test_a_mask_that_is_none(mask, agent):
    agent.reset()
    agent.act(np.zeros((2, 2)))
    with pytest.raises(UserError, match=r"must be of type bool and shape \(2,\), one entry per row, not of type"):
        agent.reset(mask)


@pytest.mark.parametrize(("episodes", "seed"), [(0, 0), (-1, 0), (1, -1), (1, 2**31)])
def test_evaluation_from_python(episodes, seed, agent):
    with pytest.raises(UserError, match="must be"):
        agent.evaluate(episodes, seed=seed)


def test_a_function_without_a_name_must_be_given_again(run_copy):
    config = run_copy / "config.yaml"
    config.write_text(config.read_text().replace("reward: auto", "reward: environments:<lambda>"))
    with pytest.raises(UserError, match=r"reward 'environments:<lambda>' cannot be imported by name; in Python, give"):
        foretell.load(run_copy, trust=True)
