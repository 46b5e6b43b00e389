"""What all tests share: a compilation cache of their own, a quick compiler, and a limit to the memory they keep."""

import ctypes
import gc
import os
import shutil
import signal
import sys
import threading
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType

import jaxtyping
import pytest

# JAX reads these when it is imported; workers and subprocesses of this session inherit them. The cache is kept from
# session to session, since most of a test's time is compilation; `make clean` removes it.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "xla"))
os.environ["XDG_CONFIG_HOME"] = str(Path(__file__).parents[1] / ".pytest_cache" / "config")  # of the key of runs
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

# Most of the suite's time is compilation: what is not optimized compiles in half the time.
_QUICK = "--xla_backend_optimization_level=0"
_RELEASE = tuple(map(int, version("jaxlib").split(".")[:2]))
if _RELEASE < (0, 11):  # later ones have no other emitters, and stop at a flag that they do not know
    _QUICK += " --xla_cpu_use_fusion_emitters=false"
_GIVEN = os.environ.get("XLA_FLAGS", "").removeprefix(_QUICK).strip()  # workers inherit ours; equal flags share a cache
os.environ["XLA_FLAGS"] = f"{_QUICK} {_GIVEN}".strip()


# A shell that runs tests in the background, or nohup, ignores these; what is tested here must receive them.
for _signal, _handler in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
    if hasattr(signal, _signal) and signal.getsignal(getattr(signal, _signal)) is signal.SIG_IGN:
        signal.signal(getattr(signal, _signal), _handler)

_KNOWN: dict = {}
"""Functions and tasks by what they are made of, see `equal_agents_share_programs`."""
_SHARED = ("environments:tiny/", "Pendulum-v1")
"""How the environments begin whose tasks are made once."""
_ROOM = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 6 if hasattr(os, "sysconf") else 2**31
"""Bytes that a worker may hold before it forgets its programs, which others then trace anew."""


def pytest_addoption(parser):
    parser.addoption("--shapes", action="store_true", help="check the shapes in signatures in long tests too")


def pytest_collection_finish():
    """Spare Python the search for garbage among all modules and tests, which takes as long as some of the tests."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


@pytest.fixture(scope="session", autouse=True)
def no_word_of_compilers():
    """Runs do not say that a compilation takes long, which depends on the machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("foretell.callbacks.console._SILENT", float("inf"))
        yield


@pytest.fixture(scope="module", autouse=True)
def release_memory():
    """Drop compiled programs once they take much memory, and give what compilers have freed back to the system.

    Without this a worker grows to several GB, most of it free memory that the C library keeps.
    """
    yield
    if _resident_bytes() < _ROOM:  # searching for garbage takes longer than many a module
        return
    gc.collect()
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)
    if "jax" in sys.modules and _resident_bytes() > _ROOM:
        _KNOWN.clear()
        sys.modules["jax"].clear_caches()


def _resident_bytes() -> float:
    """Memory of this process; without limit where that is unknown."""
    pages = Path("/proc/self/statm")
    return int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if pages.exists() else float("inf")


@pytest.fixture(scope="session", autouse=True)
def equal_agents_share_programs():
    """Runs of equal agents on equal tasks of the tests find the programs of the first one again.

    Tracing them anew would take most of the time of a tiny run. Processes of their own and other tasks do without.
    """
    from foretell import api
    from foretell.callbacks import predictions
    from foretell.training import actor, batch, controller, learner, state

    def interned(function, *args, **keywords):
        """As `functools.partial`, but the same object for the same arguments: JAX keeps programs by functions."""
        made = partial(function, *args, **keywords)
        try:
            return _KNOWN.setdefault((function, args, *keywords.items()), made)
        except TypeError:  # of what cannot be compared
            return made

    def task_of(settings, functions=MappingProxyType({})):
        if not str(settings.env).startswith(_SHARED):
            return make_task(settings, functions)
        key = (settings.model_dump_json(), *functions.values())
        return _KNOWN.get(key) or _KNOWN.setdefault(key, make_task(settings, functions))

    make_task = api.make_task
    with pytest.MonkeyPatch.context() as patch:
        for module in (actor, batch, controller, learner, predictions, state):
            patch.setattr(module, "partial", interned)
        patch.setattr(api, "make_task", task_of)
        yield


@pytest.fixture(scope="session", autouse=True)
def programs_share_contexts():
    """A thread's programs share a context of MLIR. To make one takes longer than to lower a small program.

    JAX makes one for each program. What it holds is freed with it, so that each serves a hundred programs.
    """
    from jax._src.interpreters import mlir

    def context():
        if not getattr(kept, "left", 0):
            kept.context, kept.left = make_context(), 100
        kept.left -= 1
        return kept.context

    kept, make_context = threading.local(), getattr(mlir, "make_ir_context", None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mlir, "make_ir_context", context, raising=False)  # where there is another function, that is used
        yield


@pytest.fixture(autouse=True)
def shapes_are_checked_in_short_tests(request):
    """Check the shapes in signatures, but not in long tests: that would take a sixth of their time.

    Those are whole runs of what short tests check part by part. `pytest --shapes` checks them everywhere.
    """
    checked = request.config.getoption("--shapes") or not request.node.get_closest_marker("long")
    jaxtyping.config.update("jaxtyping_disable", not checked)


@pytest.fixture(scope="module", autouse=True)
def quick_curves():
    """An empty figure at the end of every run, since a learning curve takes a third of a tiny run's time."""
    from foretell.callbacks import curve

    def draw(episodes, path, *, title):
        from matplotlib.figure import Figure

        path.parent.mkdir(parents=True, exist_ok=True)
        Figure(figsize=(1, 1)).savefig(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curve, "draw_learning_curve", draw)
        yield


@pytest.fixture
def optimized(monkeypatch):
    """Programs of runs are optimized, for runs that take longer than their compilation."""
    from foretell.compilation import COMPILER_OPTIONS

    monkeypatch.setitem(COMPILER_OPTIONS, "xla_backend_optimization_level", 2)


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A finished run of two trials on `tiny/Line-v0`, to be read but never changed."""
    import foretell
    from tiny import LINE, TINY

    out = tmp_path_factory.mktemp("trained") / "run"
    foretell.train("pets/default", out=out, env=LINE, overrides=TINY, quiet=True)
    return out


@pytest.fixture
def run_copy(trained, tmp_path):
    """A copy of that run, to be spoilt."""
    return shutil.copytree(trained, tmp_path / "run")


@pytest.fixture
def terminal(monkeypatch):
    """`with terminal() as shown:` standard output is a terminal; `shown` is what was shown there at last."""
    pty = pytest.importorskip("pty")  # not on Windows
    from tiny import read

    @contextmanager
    def opened():
        ours, theirs = pty.openpty()
        shown = []
        reader = threading.Thread(target=lambda: shown.extend(iter(partial(read, ours), "")))
        reader.start()
        with open(theirs, "w", encoding="utf-8") as stream, monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", stream)
            patch.setenv("TERM", "xterm-256color")
            yield shown
        reader.join()
        os.close(ours)

    return opened


@pytest.fixture
def refused(capsys):
    """Run a command that must fail; the one sentence it printed."""
    from foretell.cli import main

    def run(*argv):
        code = main([str(word) for word in argv])
        out, err = capsys.readouterr()
        assert code == 2 and "Traceback" not in out
        assert err.startswith("foretell: ") and err.endswith("\n") and err.count("\n") == 1, err
        return err.removeprefix("foretell: ").removesuffix("\n")

    return run
