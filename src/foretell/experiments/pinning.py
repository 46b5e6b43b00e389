"""The commit that a sweep runs: refused unless it is the code, and unless other machines can fetch it."""

import subprocess
from pathlib import Path

from foretell.errors import UserError


def pushed_commit(folder: Path | None = None) -> str:
    """The commit of a clone, by default that of Foretell itself.

    Raises:
        UserError: unless everything is committed and the commit is on a branch of a remote repository.
    """
    folder = Path(__file__).parent if folder is None else folder
    if changed := _git(folder, "status", "--porcelain", "--untracked-files=no"):
        raise UserError(
            f"'{changed.split()[-1]}' is changed but not committed; commit and push it, or leave out --pinned"
        )
    commit = _git(folder, "rev-parse", "HEAD")
    if not _git(folder, "branch", "--remotes", "--contains", commit):
        raise UserError(f"the commit {commit[:12]} is not pushed; push it, or leave out --pinned")
    return commit


def _git(folder: Path, *words: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        raise UserError(f"'{folder}' is not in a clone of a git repository; leave out --pinned") from None
    return done.stdout.strip()
