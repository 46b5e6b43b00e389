"""The runs of a report: how they are found, grouped and labelled."""

import pytest
from written import write_run

from foretell.errors import UserError
from foretell.page.records import differences, find_runs, grouped, read_record


def groups_of(*folders):
    return grouped([read_record(path) for path in find_runs(folders)])


def test_runs_are_found_in_studies_and_folders(tmp_path):
    for seed in (0, 2, 10):
        write_run(tmp_path / "study" / "variant" / str(seed), [1], seed=seed)
    single = write_run(tmp_path / "single", [1])
    found = find_runs([tmp_path / "study", single, single])
    assert [path.name for path in found] == ["0", "2", "10", "single"]
    assert len(find_runs([tmp_path])) == 4


@pytest.mark.parametrize("name", ["nothing", "empty"])
def test_what_holds_no_run_is_refused_in_one_sentence(tmp_path, name):
    (tmp_path / "empty").mkdir()
    write_run(tmp_path / "emptied", [1])
    with pytest.raises(UserError, match=rf"{name}' ?.*did you mean '.*emptied'|{name}'"):
        find_runs([tmp_path / name])


def test_seeds_are_one_group_and_settings_make_another(tmp_path):
    first = [write_run(tmp_path / f"a{seed}", [1], seed=seed, train={"trials": 5 + seed}) for seed in range(2)]
    other = write_run(tmp_path / "b", [1], planner={"population": 30})
    groups = groups_of(*first, other)
    assert [len(group.records) for group in groups] == [2, 1]
    assert [group.label for group in groups] == [
        "pets/default (planner.population=60)", "pets/default (planner.population=30)",
    ]  # fmt: skip
    assert differences(groups) == {"train.trials": ["5 / 6", "15"], "planner.population": ["60", "30"]}


def test_variants_of_a_study_have_its_names(tmp_path):
    for name in ("narrow", "wide"):
        write_run(tmp_path / "study" / name / "0", [1], planner={"population": 30 if name == "narrow" else 40})
    (tmp_path / "study" / "study.yaml").write_text("")
    assert [group.label for group in groups_of(tmp_path)] == ["pets/default (narrow)", "pets/default (wide)"]


def test_a_run_that_goes_on_from_itself_is_read(tmp_path):
    folder = write_run(tmp_path / "loop", [1.0, 2.0])
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace("pretrained: null", f"pretrained: {folder}"))
    assert read_record(folder).points.steps.tolist() == [200, 300]


def test_the_points_of_a_stage_come_after_those_of_the_one_before(tmp_path):
    before = write_run(tmp_path / "before", [1.0] * 4)
    folder = write_run(tmp_path / "after", [1.0, 2.0])
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace("pretrained: null", f"pretrained: {before}"))
    found = read_record(folder).points
    assert found.steps.tolist() == [700, 800] and found.seconds.tolist() == [3.0, 5.0]
