"""The page on clusters: its commands work, and the job script runs, stops, queues again and goes on as it says."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

import foretell
from experiments.stubs import write_run
from foretell.cli import main, parser
from foretell.experiments import study as module
from foretell.experiments.directory import StudyDirectory
from foretell.experiments.executor import Ended, run_locally
from foretell.experiments.plan import make_plan
from foretell.runs.presets import resolve
from tiny import LINE, TINY_SET

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "how-to" / "cluster.md").read_text()
SCRIPT = ROOT / "examples" / "slurm" / "study.sbatch"
SECONDS = 120.0
"""How long a test waits for a process."""
STANDS_FOR_FORETELL = """#!/bin/bash
echo "$@" >> calls
trap 'echo saved >> calls; exit 130' TERM
[ ! -e fails ] || exit 2
[ -e waits ] || exit 0
while true; do sleep 0.02; done
"""
FORETELL = """#!/bin/bash
exec {python} -m foretell "$@"
"""
SBATCH = """#!/bin/bash
IFS=- read -r first last <<< "${1#--array=}"
for ((i = first; i <= last; i++)); do SLURM_ARRAY_JOB_ID=7 SLURM_ARRAY_TASK_ID=$i bash "${@:2}" || exit 1; done
"""


def blocks(language):
    found = re.findall(r"^```(\w*)\n(.*?)^```\n", PAGE, re.S | re.M)
    return [text for its_language, text in found if its_language == language]


def write_program(folder, name, text):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


@pytest.fixture
def cluster(tmp_path):
    """A folder with what SLURM and Foretell are to a job script, which notes how they are called."""
    write_program(tmp_path / "bin", "foretell", STANDS_FOR_FORETELL)
    write_program(tmp_path / "bin", "scontrol", '#!/bin/bash\necho "scontrol $@" >> calls\n')
    write_program(tmp_path / "bin", "sbatch", SBATCH)
    return tmp_path


def variables(cluster):
    path = f"{cluster / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "1"}


def job(cluster, *words):
    return subprocess.Popen(["bash", SCRIPT, *words], cwd=cluster, env=variables(cluster))


def calls(cluster):
    path = cluster / "calls"
    return path.read_text().splitlines() if path.exists() else []


def wait_for(found):
    end = time.monotonic() + SECONDS
    while not found():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_the_script_is_valid_bash():
    assert not subprocess.run(["bash", "-n", SCRIPT], capture_output=True, check=True).stderr


def test_a_task_executes_the_run_with_its_number(cluster):
    assert job(cluster, "pets/default", "--out", "here it is").wait(SECONDS) == 0
    assert calls(cluster) == ["study pets/default --out here it is --run 1"]


def test_a_run_that_fails_is_not_queued_again(cluster):
    (cluster / "fails").touch()
    assert job(cluster).wait(SECONDS) == 2 and calls(cluster) == ["study --run 1"]


@pytest.mark.parametrize(
    ("number", "then"), [(signal.SIGUSR1, ["scontrol requeue 7_1"]), (signal.SIGTERM, [])], ids=["time", "pre-emption"]
)
def test_a_signal_saves_the_run_and_the_time_limit_queues_it_again(number, then, cluster):
    (cluster / "waits").touch()
    running = job(cluster)
    wait_for(lambda: calls(cluster))
    time.sleep(0.1)  # until bash has set the trap of what stands for Foretell
    running.send_signal(number)
    assert running.wait(SECONDS) == 130
    assert calls(cluster) == ["study --run 1", "saved", *then]


def test_the_pages_job_array_executes_every_run(cluster):
    (cluster / "examples").symlink_to(ROOT / "examples")
    (line,) = blocks("bash")
    subprocess.run(["bash", "-c", line], cwd=cluster, env=variables(cluster), check=True, timeout=SECONDS)
    words = line.split("study.sbatch ")[1].strip()
    assert calls(cluster) == [f"study {words} --run {number}" for number in range(10)]


def test_the_options_that_the_page_explains_are_in_the_script():
    options = re.findall(r"^#SBATCH (--[\w-]+)", SCRIPT.read_text(), re.M)
    assert {"--signal", "--requeue"} <= {*re.findall(r"\(`(--\w+)`\)", PAGE)} & {*options}
    assert "#SBATCH --signal=B:USR1@300" in SCRIPT.read_text() and "five minutes" in PAGE
    for name in re.findall(r"`train\.(\w+)`", PAGE):
        assert hasattr(resolve("pets/default").train, name)


@pytest.mark.long
def test_its_commands_work(tmp_path, monkeypatch, capsys):
    """Runs are written instead of trained."""
    commands = [shlex.split(line)[1:] for line in blocks("")[0].splitlines()]
    out = tmp_path / "pendulum"
    commands = [[str(out) if word.startswith("/shared") else word for word in words] for words in commands]
    plan = make_plan(["pets/default", "sac/default"], env="Pendulum-v1", seeds=5)
    members = StudyDirectory(out).members(plan)
    help, _, options = parser._COMMANDS["train"]
    monkeypatch.setitem(parser._COMMANDS, "train", (help, lambda args: write_run(members[0]) or 0, options))

    def ran(member, cores, stop):
        write_run(member)
        return Ended(member, 0)

    monkeypatch.setattr(module, "run_locally", partial(run_locally, run=ran, tick=0.01))
    monkeypatch.setattr("foretell.experiments.summary.draw_panels", lambda *_: None)
    assert [main(words) for words in commands] == [0, 0, 0]
    printed = capsys.readouterr().out
    assert "10 of 10 runs to do" in printed and "foretell train pets/default --seed 0" in printed
    assert "10 of 10 runs are finished" in (out / "summary.md").read_text()


@pytest.mark.slow
def test_a_real_run_is_saved_before_the_time_limit_and_goes_on(cluster, monkeypatch):
    """With the program itself: USR1 within the run; the same task once more finishes it."""
    write_program(cluster / "bin", "foretell", FORETELL.format(python=shlex.quote(sys.executable)))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")]))
    words = ["pets/default", "pets/default+ds", "--env", LINE, "--seeds", "1", "--out", "study", "--quiet"]
    words += [*TINY_SET, "train.trials=40"]
    running, run = job(cluster, *words), cluster / "study" / "pets-default+ds" / "0"
    wait_for(lambda: (run / "episodes.csv").exists() and ",train," in (run / "episodes.csv").read_text())
    running.send_signal(signal.SIGUSR1)
    assert running.wait(SECONDS) == 130 and calls(cluster) == ["scontrol requeue 7_1"]
    assert 0 < len(foretell.load(run, quiet=True).returns) < 40
    assert job(cluster, *words).wait(SECONDS) == 0
    assert len(foretell.load(run, quiet=True).returns) == 40
    assert (cluster / "study" / "finished.csv").read_text().count("pets/default+ds,0,") == 1
