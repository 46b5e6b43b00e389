"""The files that start clusters: their syntax, their keys, and what they name is there."""

import json
import os
import re
import subprocess
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from foretell import UserError
from foretell.cli.parser import parse
from foretell.experiments.pinning import pushed_commit

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
SCRIPTS = sorted([*EXAMPLES.rglob("*.sbatch"), *EXAMPLES.rglob("*.sh")])
GIT = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_the_syntax_of_scripts_is_right(script):
    assert subprocess.run(["bash", "-n", script], capture_output=True).stderr == b""


def test_extras_and_options_in_the_files_are_there():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    texts = [path.read_text() for path in EXAMPLES.rglob("*.*")]
    named = {extra for text in texts for extra in re.findall(r"foretell\[(\w+)\]|EXTRAS='\[(\w+)\]'", text)}
    assert named and {extra for pair in named for extra in pair if extra} <= extras.keys()
    job = yaml.safe_load((EXAMPLES / "ray" / "kuberay.yaml").read_text())["spec"]
    assert parse(job["entrypoint"].split()[1:]).ray == "auto"
    pod = job["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    assert mounts == {"shared": "/shared"} and [volume["name"] for volume in pod["volumes"]] == ["shared"]


@pytest.mark.skipif(not find_spec("ray"), reason="Ray is not installed: pip install 'foretell[ray]'")
def test_the_cluster_on_aws_has_the_keys_of_ray():
    import jsonschema

    folder = Path(find_spec("ray").origin).parent / "autoscaler"
    cluster = yaml.safe_load((EXAMPLES / "ray" / "aws.yaml").read_text())
    jsonschema.validate(cluster, json.loads((folder / "ray-schema.json").read_text()))
    assert cluster["head_node_type"] in cluster["available_node_types"]


def git(folder, *words):
    return subprocess.run(
        ["git", *GIT, "-C", folder, *words], check=True, capture_output=True, text=True
    ).stdout.strip()


def clone(folder):
    """A clone of a repository with one commit, which is pushed, and the script in it."""
    git(folder, "init", "--bare", "origin")
    git(folder, "clone", str(folder / "origin"), "clone")
    (folder / "clone" / "ray").mkdir()
    for name in ("launch.sh", "aws.yaml"):
        (folder / "clone" / "ray" / name).write_bytes((EXAMPLES / "ray" / name).read_bytes())
    commit(folder / "clone")
    git(folder / "clone", "push", "origin", "HEAD")
    return folder / "clone"


def commit(folder):
    git(folder, "add", "-A")
    git(folder, "commit", "--allow-empty", "-m", "one")


def launched(folder):
    """What the script does, with a command `ray` that copies the file it is given."""
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin" / "ray").write_text(f'#!/bin/bash\ncp "$3" "{folder}/filled.yaml"\n')
    (folder / "bin" / "ray").chmod(0o755)
    env = {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    command = ["bash", folder / "clone" / "ray" / "launch.sh"]
    return subprocess.run(command, env=env, capture_output=True, text=True)


def test_a_commit_is_refused_unless_it_is_pushed(tmp_path):
    folder = clone(tmp_path)
    assert launched(tmp_path).returncode == 0 and pushed_commit(folder) == git(folder, "rev-parse", "HEAD")
    filled = yaml.safe_load((tmp_path / "filled.yaml").read_text())["setup_commands"]
    assert any(git(folder, "rev-parse", "HEAD") in line for line in filled)
    assert any(f"git clone {tmp_path / 'origin'} " in line for line in filled)
    commit(folder)
    assert "is not pushed; push it" in launched(tmp_path).stderr
    with pytest.raises(UserError, match="is not pushed; push it, or leave out --pinned"):
        pushed_commit(folder)
    (folder / "ray" / "aws.yaml").write_text("changed: yes")
    assert "not committed" in launched(tmp_path).stderr
    with pytest.raises(UserError, match=r"'ray/aws.yaml' is changed but not committed"):
        pushed_commit(folder)
    with pytest.raises(UserError, match="is not in a clone of a git repository; leave out --pinned"):
        pushed_commit(tmp_path)
