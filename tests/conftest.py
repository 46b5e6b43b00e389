"""What all tests share: a compilation cache of their own, so that they neither use nor fill the user's."""

import os
import shutil
import tempfile

import pytest

# JAX reads these when it is imported; workers and subprocesses of this session inherit them.
_OWN = "JAX_COMPILATION_CACHE_DIR" not in os.environ
if _OWN:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="foretell-tests-")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"


@pytest.hookimpl(trylast=True)
def pytest_unconfigure():
    """Remove the cache when the session ends, in the process that made it."""
    if _OWN:
        shutil.rmtree(os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
