"""One side of a race: a process that prepares a workload and then measures it once for each line it reads.

It needs the standard library only, since it runs in the environments of all peers. What it writes are lines of JSON:
`{"setup": seconds}` once everything is compiled, then an answer to each line, at the end `{"memory": bytes}`.
"""

import json
import os
import resource
import subprocess
import sys
import time


def serve(workloads, arguments=None):
    """Answer lines: `time` with what the workload measures, `limit` with what it knows of the hardware.

    Args:
        workloads: `{name: make}`. `make(**settings)` returns a function that measures one turn and returns seconds for
            each unit of work, or a dictionary with `seconds` and more. An attribute `limit` of that function, where
            there is one, measures the limit.
        arguments: name and settings as JSON; by default those of the process.
    """
    name, settings = arguments or sys.argv[1:3]
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever libraries print is not part of the answers
    start = time.perf_counter()
    measure = workloads[name](**json.loads(settings))
    _answer(out, {"setup": time.perf_counter() - start})
    for line in sys.stdin:
        if line.strip() == "limit":
            _answer(out, getattr(measure, "limit", dict)())
        else:
            found = measure()
            _answer(out, found if isinstance(found, dict) else {"seconds": found})
    _answer(out, {"memory": peak_memory()})


def peak_memory():
    """Largest resident memory of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def repeated(call, seconds=0.3):
    """A measurement of `call` by as many calls as take about `seconds`; the first two calls, not counted, compile."""
    call()
    start = time.perf_counter()
    call()
    count = max(1, min(10_000, round(seconds / (time.perf_counter() - start))))

    def measure():
        start = time.perf_counter()
        for _ in range(count):
            call()
        return (time.perf_counter() - start) / count

    return measure


def latencies(call, calls):
    """Median, 99 % and 99.9 % quantile and maximum of the seconds of `calls` calls."""
    times = []
    for _ in range(calls):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    times.sort()
    at = {name: times[min(calls - 1, int(share * calls))] for name, share in (("p99", 0.99), ("p99.9", 0.999))}
    return {"seconds": times[calls // 2], **at, "max": times[-1]}


def start(library=None, code=None, **_):
    """Seconds of a process that runs this code, or imports this library."""

    def measure():
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-c", code or f"import {library}"], check=True, stdout=2)
        return time.perf_counter() - begun

    return measure


def _answer(out, message):
    print(json.dumps(message), file=out, flush=True)
