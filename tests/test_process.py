"""What a process is set to: its signals, JAX's options and devices, and forks."""

import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from foretell import api, compilation
from foretell.errors import UserError, one_line
from foretell.training.learner import check_finite
from tiny import LINE, TINY, TINY_SET, by_hand


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("jax_enable_x64", True),
        ("jax_debug_nans", True),
        ("jax_debug_infs", True),
        ("jax_disable_jit", True),
        ("jax_default_prng_impl", "rbg"),
        ("jax_numpy_dtype_promotion", "strict"),
        ("jax_numpy_rank_promotion", "raise"),
    ],
)
def test_an_option_with_which_programs_compute_something_else_is_refused(option, value, tmp_path, trained):
    before = getattr(jax.config, option)
    jax.config.update(option, value)
    try:
        with pytest.raises(UserError, match=f"{option}={value} is set, but only .* is supported; unset"):
            api.train("pets/cartpole", out=tmp_path / "run")
        with pytest.raises(UserError, match=option):
            api.load(trained)
    finally:
        jax.config.update(option, before)
    assert not [*tmp_path.iterdir()]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bfloat16", "tensorfloat32", "float32"])
def test_a_run_with_another_precision(precision, tmp_path):
    with jax.default_matmul_precision(precision):
        run = api.train("pets/default", env=LINE, out=tmp_path / "run", overrides=TINY, quiet=True)
    assert len(run.returns) == 2


def python(code, **environment):
    """A program in a process of its own."""
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "PYTHONPATH": paths, **environment}
    return subprocess.run([sys.executable, *code], env=env, capture_output=True, text=True, timeout=120)


@pytest.mark.long
@pytest.mark.parametrize("platforms", ["cuda", *by_hand("tpu", "nonsense")])
def test_a_device_that_is_not_there_is_one_sentence_and_nothing_is_written(platforms, tmp_path):
    command = ["-m", "foretell", "train", "pets/default", "--env", LINE, "--out", str(tmp_path / "run"), *TINY_SET]
    done = python(command, JAX_PLATFORMS=platforms)
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 2 and last.startswith(f"foretell: JAX finds no device with JAX_PLATFORMS={platforms} (")
    assert "Traceback" not in done.stderr and not [*tmp_path.iterdir()]


FORK = """
import os, sys, foretell
run = foretell.load(sys.argv[1])
child = os.fork()
if not child:
    for use in (lambda: run.act([0.0, 0.0]), lambda: foretell.load(sys.argv[1]), lambda: foretell.resume(sys.argv[1])):
        try:
            use()
        except foretell.UserError as error:
            print(error, flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""


@pytest.mark.long
def test_a_fork_does_not_wait_for_ever(trained):
    done = python(["-W", "ignore", "-c", FORK, str(trained)])
    assert done.stdout.count("was forked after JAX had begun to work") == 3, done.stderr


def test_a_fork_before_jax_works_is_no_matter(monkeypatch):
    monkeypatch.setattr(compilation, "_forked", True)
    with pytest.raises(UserError, match=r"get_context\('spawn'\)"):
        compilation.prepare_jax()
    monkeypatch.setattr(jax._src.xla_bridge, "backends_are_initialized", lambda: False)
    compilation._after_fork()
    compilation.prepare_jax()


@pytest.mark.parametrize("module", ["gymnasium", "jax", *by_hand("yaml", "pydantic")])
@pytest.mark.long
def test_ctrl_c_while_libraries_are_imported_is_one_line(module, tmp_path):
    (tmp_path / f"{module}.py").write_text("import signal\nsignal.raise_signal(signal.SIGINT)\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.argv = ['foretell', 'show', 'pets/cartpole']\n"
    done = python(["-c", f"{code}from foretell.cli import main\nsys.exit(main())"])
    assert (done.returncode, done.stderr) == (130, "foretell: interrupted\n")


@pytest.mark.long
def test_a_program_that_imports_foretell_keeps_its_signals():
    code = "import signal, foretell; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    assert python(["-c", code]).stdout == "True\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [("a\nb", "a\\nb"), ("a\x1b[31mb", "a\\x1b[31mb"), ("a\tb\r", "a\\tb\\r"), ("ü 日本", "ü 日本")],
)
def test_a_message_is_one_line(text, line):
    assert one_line(text) == line == str(UserError(text))


def test_a_message_with_a_long_value_keeps_its_beginning_and_its_end():
    line = str(UserError(f"no preset '{'x' * 5000}'; did you mean 'pets/cartpole'?"))
    assert len(line) < 1300 and line.startswith("no preset 'xx") and line.endswith("did you mean 'pets/cartpole'?")


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        ({"gradient_steps": 110.0, "skipped_steps": 10.0}, "10 of 110 gradient steps were not finite and were skipped"),
        ({"reward_model_gradient_steps": 50.0, "reward_model_skipped_steps": 1.0}, "1 of 50 .* reward_model_skipped"),
        ({"skipped_steps": 0.25}, "0.25 gradient steps were not finite and were skipped"),
    ],
)
@pytest.mark.long
def test_steps_that_were_skipped_are_said(metrics, said):
    assert re.search(said, check_finite(metrics))


@pytest.mark.parametrize("name", ["", "reward_model_"])
@pytest.mark.long
def test_learning_that_skips_everything_ends_the_run(name):
    with pytest.raises(UserError, match="learning diverged: 9 of 9 gradient steps were not finite"):
        check_finite({f"{name}gradient_steps": 9.0, f"{name}skipped_steps": 9.0})
    assert check_finite({f"{name}gradient_steps": 9.0, f"{name}skipped_steps": 0.0}) is None
