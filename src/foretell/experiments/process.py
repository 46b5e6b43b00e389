"""The process of one run. Nothing here waits for JAX, since every worker of a cluster imports it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

Cores = tuple[int, ...]
"""The processor cores of one process."""

STOPPED = 130
"""Exit code of a run that was asked to stop."""
_THREADS = ("NPROC", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment variables that set the number of threads of XLA, NumPy and other libraries."""


def run_process(
    words: Sequence[str],
    log: Path,
    cores: Cores,
    stops: Callable[[], bool],
    *,
    threads: int | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
) -> tuple[int, str, float]:
    """Execute a command of `foretell` in a separate process, which ends when this process ends.

    Args:
        words: the arguments of `foretell`.
        log: the file to which its output is appended.
        cores: the cores it is pinned to; none for any.
        stops: whether to ask it to stop; called several times a second.
        threads: number of threads; by default that of its cores.
        env: further environment variables.
        cwd: its working directory.

    Returns:
        Its exit code, the last line of its output if it failed, and its wall time in seconds.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    numbers = dict.fromkeys(_THREADS, str(threads or len(cores)))
    start = time.monotonic()
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "foretell.cli.attached", *words],
            stdin=subprocess.PIPE, stdout=output, stderr=output, env={**os.environ, **numbers, **(env or {})},
            cwd=cwd, start_new_session=True,
        )  # fmt: skip
        _pin(process.pid, cores)
        while (code := _wait(process, 0.2)) is None and not stops():
            pass
        if code is None:
            process.terminate()
            code = process.wait()
            code = STOPPED if code == -signal.SIGTERM else code  # stopped before it could handle the signal
        assert process.stdin is not None
        process.stdin.close()
    error = "" if code in (0, STOPPED) else _last_line(log, code)
    return code, error, time.monotonic() - start


def again(run: Path) -> list[str]:
    """The arguments of `foretell` that resume a run; none if it has not started."""
    return ["resume", str(run)] if (run / "config.yaml").is_file() else []


def _pin(pid: int, cores: Cores) -> None:
    """Pin a process to its cores, if the system supports it."""
    if cores and hasattr(os, "sched_setaffinity"):
        try:
            os.sched_setaffinity(pid, cores)
        except OSError:  # it has ended already
            return


def _wait(process: subprocess.Popen, seconds: float) -> int | None:
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def _last_line(log: Path, code: int) -> str:
    """The last line of a log, or a description of the exit code."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 4096))
        lines = file.read().decode(errors="replace").strip().splitlines()
    if code < 0:
        return f"killed by signal {-code}{', perhaps because memory ran out' if code == -signal.SIGKILL else ''}"
    return lines[-1].removeprefix("foretell: ").strip() if lines else f"exit code {code}"
