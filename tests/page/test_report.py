"""The page: what it holds, that it needs nothing else, and that it runs and shows no foreign code."""

import html
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from written import data_of, text_of, write_run

import foretell
from foretell.cli import main
from foretell.errors import UserError
from foretell.page.meanings import meaning_of
from foretell.page.records import find_runs
from tiny import LINE


@pytest.fixture(scope="module")
def page(trained, tmp_path_factory):
    """The page of a real run of two trials, with a video and a figure."""
    run = shutil.copytree(trained, tmp_path_factory.mktemp("report") / "run")
    (run / "videos").mkdir()
    (run / "videos" / "run-episode-0.mp4").write_bytes(b"a video")
    (run / "diagnostics").mkdir()
    (run / "diagnostics" / "calibration.png").write_bytes(b"a picture")
    (run / "diagnostics" / "summary.csv").write_text("name,value\nmse_1,0.25\n")
    (run / "diagnostics.csv").write_text("env_steps,mse_1\n5,0.5\n10,nan\n")
    return foretell.write_report([run], run.parent / "report.html").read_text()


@pytest.mark.long
def test_it_has_everything(page):
    data, text = data_of(page), text_of(page)
    (panel,) = data["panels"]
    (group,) = panel["groups"]
    assert group["label"] == "pets/default" and group["of"] == "trials" and len(group["runs"][0]["raw"]) == 2
    assert data["times"][0]["seconds"].keys() >= {"learning", "choosing actions", "environment"}
    assert data["diagnostics"][0]["columns"] == {"mse_1": [0.5, None]}
    for words in ("Learning curves", "Results", "Where the time went", "What the model believed", "mse_1", "0.25",
                  "calibration.png", "run-episode-0.mp4", "population: 6", "equinox"):  # fmt: skip
        assert words in text
    assert "data:video/mp4;base64,YSB2aWRlbw==" in page and "data:image/png;base64,YSBwaWN0dXJl" in page


@pytest.mark.long
def test_what_the_model_believed(page):
    (one,) = data_of(page)["beliefs"]
    assert one["names"] == ["obs[0]", "obs[1]"]
    assert one["times"] == [0, 1, 2, 3, 4] and len(one["obs"][0]) == 6 and one["complete"]
    assert one["planned"]["shape"] == [5, 3, 2, 2] and one["rejected"]["shape"] == [5, 5, 3, 2]
    assert len(one["searches"][0]["values"]) == 5 and len(one["member_values"][0]) == 2
    assert one["members"] == {"all": [0, 1], "shown": [0, 1]} and one["horizons"] is None
    assert one["frames"][0].startswith("data:image/jpeg;base64,") and len(one["neighbours"][0]) == 5


@pytest.mark.long
def test_verdicts_on_predictions(page):
    (one,) = data_of(page)["beliefs"]
    assert {found["part"] for found in one["verdicts"]} >= {"model"} and "1 step ahead the squared error is" in text_of(
        page
    )
    assert all(found["text"].replace("<", "&lt;") in html.unescape(page) for found in one["verdicts"])


def test_verdicts_are_on_what_was_measured_last(tmp_path):
    run = write_run(tmp_path / "run", [1.0, 2.0])

    def judged():
        return text_of(foretell.write_report([run], tmp_path / "r.html").read_text())

    (run / "diagnostics.csv").write_text("env_steps,plan_bias,plan_scale\n5,9,10\n10,0.1,10\n")
    assert "good planned returns are about right: their bias is 1 %" in judged()
    (run / "diagnostics").mkdir()
    (run / "diagnostics" / "summary.csv").write_text("name,value\nplan_bias,-9\nplan_scale,10\nother,text\n")
    assert "poor planned returns are too low: their bias is 90 %" in judged()


def test_a_section_that_would_be_empty_says_why(tmp_path):
    run = write_run(tmp_path / "run", [1.0, 2.0])

    def said(**options):
        return text_of(foretell.write_report([run], tmp_path / "r.html", **options).read_text())

    text = said()
    assert "What the model believed pets/default on environments:tiny/Line-v0: no checkpoint." in text
    for sentence in ("Nothing in the data of the runs looks wrong.", "All runs have the same settings.",
                     "No run has a video; `foretell film RUN_DIR` makes some.", "No agent was measured;",
                     "No run has a row of metrics.csv"):  # fmt: skip
        assert sentence in text
    assert "Left out: --model-seconds 0." in said(model_seconds=0.0) and "Left out: --videos 0." in said(videos=0)
    assert "No run has finished" not in text


@pytest.mark.long
def test_an_agent_without_a_model_says_so(tmp_path):
    small = {"learner": {"hidden": [8], "batch_size": 8}, "updates": {"per_step": 0.5, "pretraining": 5}}
    length = {"train": {"steps": 20, "steps_per_learning": 5, "random_steps": 10, "eval_episodes": 1, "eval_every": 5}}
    run = foretell.train("sac/default", out=tmp_path / "run", env=LINE, overrides=[small, length], quiet=True)
    page = text_of(foretell.write_report(run.directory, tmp_path / "r.html").read_text())
    assert f"sac/default on {LINE}: no learned model, but a policy alone or the true model." in page


@pytest.mark.long
def test_names_are_explained(page):
    meaning = "squared error so many steps ahead, in squared units of the observation"
    assert f'<abbr title="{meaning}">mse_1</abbr>' in page and data_of(page)["meanings"] == {"mse_1": meaning}
    assert "<dt>final return</dt><dd>mean of the last tenth of a run&#39;s points, at least of three</dd>" in page
    assert (
        meaning_of("q_bias_oracle_5") == "value according to oracle_5 minus true return, a mean; positive is too high"
    )
    assert meaning_of("share_0.9_10").endswith("should hold 0.9 of them") and meaning_of("population") is None


@pytest.mark.long
def test_it_needs_no_network(page):
    shown = re.sub(r"<script[^>]*>.*?</script>", "", page, flags=re.S)
    assert all(address.startswith(("data:", "#")) for address in re.findall(r'(?:src|href)="([^"]*)"', shown))
    assert "default-src 'none'" in page and "@import" not in shown and "url(" not in shown


def test_names_and_settings_of_others_are_only_text(tmp_path):
    evil = '</script><img src=x onerror="alert(1)">'
    run = write_run(tmp_path / "run", [1.0, 2.0])
    text = (run / "config.yaml").read_text()
    changed = text.replace("preset: pets/default", f"preset: '{evil}'").replace("env: environments", f"env: '{evil}' #")
    (run / "config.yaml").write_text(changed)
    (run / "diagnostics").mkdir()
    (run / "diagnostics" / "summary.csv").write_text(f"name,value\n{evil},1\n")
    page = foretell.write_report([run], tmp_path / "r.html").read_text()
    assert "<img src=x" not in page and evil in text_of(page)
    assert data_of(page)["panels"][0]["groups"][0]["label"] == evil


def test_a_foreign_run_runs_no_code(tmp_path, monkeypatch):
    (tmp_path / "evil_module.py").write_text("raise SystemExit('run')")
    monkeypatch.syspath_prepend(tmp_path)
    run = write_run(tmp_path / "run", [1.0, 2.0])
    (run / "checkpoints" / "2").mkdir(parents=True)
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(re.sub("  env: .*", "  env: evil_module:Env", text))
    page = text_of(foretell.write_report([run], tmp_path / "r.html").read_text())
    assert "evil_module" not in sys.modules
    assert "would run the module 'evil_module'" in page and "if you trust its code, add --trust" in page


@pytest.mark.long
def test_the_command_reports_on_a_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for seed in range(2):
        write_run(tmp_path / "runs" / "v" / str(seed), [1.0, 2.0 + seed], seed=seed)
    write_run(tmp_path / "runs" / "unfinished", [])
    for argv in (
        ["runs"],
        ["runs", "-o", "x.png"],
        ["runs", "--format", "pdf"],
        ["runs", "-o", "y", "--format", "png"],
    ):
        assert main(["report", *argv]) == 0
    assert "report      report.html" in capsys.readouterr().out
    page = text_of((tmp_path / "report.html").read_text())
    assert (
        "3 runs in 1 group, 1 environment" in page
        and "Without a finished evaluation episode or trial: runs/unfi" in page
    )
    assert (tmp_path / "x.png").read_bytes()[:4] == b"\x89PNG" and (tmp_path / "y.png").is_file()
    assert (tmp_path / "report.pdf").read_bytes().count(b"/Type /Page ") == 3


def test_mistakes_are_one_sentence(tmp_path, refused):
    run = write_run(tmp_path / "run", [])
    assert "must be one of html, png, pdf, not 'htm'" in refused("report", run, "-o", "x.htm")
    assert "none of the runs has finished" in refused("report", run, "-o", tmp_path / "x.png")
    assert "no run directory" in refused("report", tmp_path / "rum")
    assert "smooth must be" in refused("report", run, "--smooth", "0")


@pytest.mark.parametrize(("place", "reason"), [("file/r.html", "File exists"), ("folder.html", "Is a directory")])
def test_a_page_that_cannot_be_written_is_one_sentence(place, reason, tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder.html").mkdir()
    run = write_run(tmp_path / "run", [1.0])
    with pytest.raises(foretell.UserError, match=f"^cannot write '{tmp_path / place}': {reason}$"):
        foretell.write_report([run], tmp_path / place, model_seconds=0.0)


@pytest.mark.slow
def test_fifty_runs_of_a_thousand_episodes(tmp_path):
    """Less than 15 MB; the time is in the page on reports."""
    rng = np.random.default_rng(0)
    for i in range(50):
        write_run(tmp_path / "runs" / str(i // 5) / str(i % 5), rng.normal(size=1000), seed=i % 5)
    out = foretell.write_report([tmp_path / "runs"], tmp_path / "r.html", model_seconds=0.0)
    assert out.stat().st_size < 15e6


def test_a_function_that_fails_names_its_place(tmp_path):
    def say(text):
        raise KeyError(text)

    run = write_run(tmp_path / "run", [1.0])
    line = say.__code__.co_firstlineno + 1
    with pytest.raises(
        UserError, match=rf"say failed \(KeyError: 'writing the page', at .*test_report.py, line {line}"
    ):
        foretell.write_report(run, tmp_path / "r.html", say=say)
    assert not (tmp_path / "r.html").exists()


@pytest.mark.parametrize("name", ["config.yaml", "episodes.csv", "diagnostics.csv"])
def test_a_file_that_is_no_text_is_refused_in_one_sentence(name, tmp_path):
    run = write_run(tmp_path / "run", [1.0])
    (run / name).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=name):
        foretell.write_report(run, tmp_path / "r.html")


def test_folders_that_may_not_be_read_are_left_out(tmp_path, monkeypatch):
    write_run(tmp_path / "runs" / "mine", [1.0])
    write_run(tmp_path / "runs" / "secret" / "theirs", [1.0])
    iterdir = Path.iterdir

    def guarded(path):
        if path.name == "secret":
            raise PermissionError("secret")
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", guarded)
    assert find_runs([tmp_path / "runs"]) == [tmp_path / "runs" / "mine"]


def test_a_run_that_is_damaged_is_refused_in_one_sentence(tmp_path):
    run = write_run(tmp_path / "run", [1.0])
    (run / "metrics.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"metrics.csv' is damaged"):
        foretell.write_report([run], tmp_path / "r.html")
