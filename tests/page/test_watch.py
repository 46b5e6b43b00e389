"""A page that follows runs: served to this machine alone, made anew as their files change."""

from threading import Thread
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from written import data_of, text_of, write_run

from foretell.page.live import Watcher, progress, watch
from foretell.page.records import read_record


@pytest.fixture
def served(tmp_path):
    """The address of a server of the folder `runs`, which is empty."""
    (tmp_path / "runs").mkdir()
    server = watch([tmp_path / "runs"], port=0, smooth=2)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_it_answers_this_machine_with_two_files_and_nothing_else(served, tmp_path):
    with urlopen(served) as answer:
        page = answer.read().decode()
    assert "There is no run in" in text_of(page) and '<script src="plotly.js"></script>' in page and len(page) < 50_000
    with urlopen(f"{served}/plotly.js") as answer:
        assert answer.headers["Cache-Control"] == "max-age=86400" and len(answer.read()) > 1e6
    with pytest.raises(HTTPError, match="404"):
        urlopen(f"{served}/../../etc/passwd")
    with pytest.raises(HTTPError, match="403"):
        urlopen(Request(served, headers={"Host": "evil.example:80"}))


def test_the_page_follows_the_files(tmp_path):
    now = [0.0]
    watcher = Watcher([tmp_path], 2, lambda: now[0])

    def page(after=3.0):
        now[0] += after
        return watcher.page()

    def returns():
        return data_of(page())["panels"][0]["groups"][0]["runs"][0]["raw"]

    assert "There is no run" in text_of(page())
    run = write_run(tmp_path / "run", [1.0, 2.0])
    assert "There is no run" in text_of(page(after=1.0))  # the last page is fresh enough
    assert "2 of 15 trials 2 (train)" in text_of(page())
    with (run / "episodes.csv").open("a") as file:
        file.write("3,400,train,3.0,100,limit,,9.0\n4,500,tra")
    assert returns() == [1, 2]  # while a row is being written
    with (run / "episodes.csv").open("a") as file:
        file.write("in,5.0,100,limit,,11.0\n")
    assert returns() == [1, 2, 3, 5]


def test_progress_of_a_run_whose_length_is_in_steps(tmp_path):
    run = write_run(tmp_path / "run", [1.0, 2.0], "sac/default", train={"steps": 5000})
    written = (run / "episodes.csv").stat().st_mtime
    (row,) = progress([read_record(run)], lambda: written + 120).rows
    assert row[1:] == ["300 of 5,000 steps", "2 (train)", "2 min ago"]


@pytest.mark.parametrize("train", ["train: {}", "train: {trials: many}", "train: 3"])
def test_progress_of_a_run_that_does_not_say_its_length(train, tmp_path):
    run = write_run(tmp_path / "run", [1.0, 2.0])
    head, _, rest = (run / "config.yaml").read_text().partition("train:\n")
    (run / "config.yaml").write_text(f"{head}{train}\n{rest[rest.index('provenance:') :]}")
    assert "2 of an unknown number of trials 2 (train)" in text_of(Watcher([tmp_path], 2).page())


@pytest.mark.parametrize("name", ["config.yaml", "episodes.csv", "metrics.csv"])
def test_a_run_that_cannot_be_read_does_not_end_the_page(name, tmp_path):
    write_run(tmp_path / "other", [1.0])
    run = write_run(tmp_path / "run", [1.0])
    (run / name).write_bytes(b"\xff\xfe\x00")
    page = text_of(Watcher([tmp_path], 2).page())
    assert f"'{run}' cannot be read yet" in page and "1 of 15 trials" in page


def test_mistakes_are_one_sentence(tmp_path, refused, served):
    assert refused("watch", tmp_path / "nothing") == f"no directory '{tmp_path / 'nothing'}'"
    port = served.rpartition(":")[2]
    assert refused("watch", tmp_path, "--port", port).startswith(f"cannot use port {port} (")
    assert "port must be" in refused("watch", tmp_path, "--port", "70000")
