"""What commands print of episodes and their returns."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from foretell.diagnostics.inspection import Inspection
    from foretell.envs.random_policy import RandomEpisode
    from foretell.run import Run
    from foretell.training.controller import EvaluationResult

    Result = EvaluationResult | RandomEpisode


def outcome(run: "Run") -> Iterator[str]:
    """The line that says what a run has reached: in its last evaluation, or in its last trials if it has none."""
    rows = run.episodes
    last = [row for row in rows if row["kind"] == "eval"][-run.settings.train.eval_episodes or len(rows) :]
    what = "evaluation  mean return" if last else "trials      mean return"
    last = last or [row for row in rows if row["kind"] == "train"][-5:]
    if last:
        mean = fmean(row["return"] for row in last)
        yield f"{what} {mean:.1f} of the last {len(last)} episode{'s' if len(last) > 1 else ''}{_rate(last)}"


def newest_video(run: "Run") -> str:
    """The path of the video written last."""
    return str(max(run.videos.rglob("*.mp4"), key=lambda path: path.stat().st_mtime))


def mean_and_std(results: "Sequence[Result]") -> tuple[float, float]:
    """Mean and standard deviation of the returns of episodes."""
    totals = [result.total for result in results]
    return fmean(totals), stdev(totals) if len(totals) > 1 else 0.0


def print_results(results: "list[EvaluationResult]") -> None:
    """A line for each episode, and the summary."""
    for i, result in enumerate(results):
        print_result(i, result)
    print_summary(results)


def print_result(number: int, result: "Result") -> None:
    """The line of one episode."""
    print(f"episode {number:3d}  return {result.total:9.2f}  {result.length} steps", flush=True)


def print_summary(results: "Sequence[Result]") -> None:
    """Mean and standard deviation of the returns."""
    mean, std = mean_and_std(results)
    success = _rate([{"success": getattr(result, "success", None)} for result in results])
    print(f"mean {mean:.2f}, std {std:.2f} over {len(results)} episodes{success}")


def print_errors(found: "Inspection") -> None:
    """A table of the errors of open-loop predictions."""
    print("mean squared error of open-loop predictions, where the std of each dimension is 1")
    for steps, error in (found.errors or {}).items():
        print(f"after {steps:3d} step{' ' if steps == 1 else 's'}  {error:.3g}")


def print_histogram(found: "Inspection") -> None:
    """A table of the weights of horizons."""
    assert found.histogram is not None
    frames = range(found.histogram.shape[1])
    print("share of transitions by weight of each horizon in the target")
    print("weight     " + "".join(f"{f'H = {frame}':>8}" for frame in frames))
    for bucket in reversed(range(len(found.histogram))):
        shares = "".join(f"{share:8.3f}" for share in found.histogram[bucket])
        print(f"{bucket / 10:.1f} to {(bucket + 1) / 10:.1f} {shares}")


def _rate(rows: Sequence[Mapping[str, Any]]) -> str:
    """The share of episodes that succeeded, if their environment says so."""
    said = [bool(row["success"]) for row in rows if row.get("success") not in (None, "")]
    return f"; success rate {fmean(said):.0%}" if said else ""
