"""How `benchmarks/longrun.py` measures growth."""

import mmap
import os

import pytest

from tiny import benchmark

longrun = benchmark("longrun")


def test_growth_is_counted_after_the_replay_is_full():
    early = [longrun.Usage(steps, 100.0 + steps / 100, 50, 9, 1.0) for steps in (5000, 10_000, 20_000)]
    late = [longrun.Usage(steps, 300.0 + 2 * steps / 1e5, 60, 9, 1.0) for steps in range(25_000, 100_000, 5000)]
    assert longrun.growth([*early, *late]) == (pytest.approx(2.0), pytest.approx(0.0, abs=1e-6))


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="only Linux has it")
def test_files_that_are_left_open_and_memory_that_is_kept_are_seen(tmp_path):
    before = longrun.usage(1, 0.0)
    files = [(tmp_path / name).open("w") for name in "abc"]
    memory = mmap.mmap(-1, 50_000_000)  # new pages: an array may be given memory that was used before
    for _ in range(50):
        memory.write(b"1" * 1_000_000)
    after = longrun.usage(2, 0.0)
    assert after.files == before.files + 3
    assert after.megabytes - before.megabytes > 40
    for file in files:
        file.close()
