"""TensorBoard events are written, and closed at the end."""

from played import Played

from foretell.callbacks import TensorBoard


class Writer:
    """Takes the place of tensorboardX's."""

    def __init__(self, folder, purge_step):
        self.folder, self.purge_step, self.scalars, self.closed = folder, purge_step, [], False

    def add_scalar(self, *scalar):
        self.scalars.append(scalar)

    def close(self):
        self.closed = True


def test_returns_lengths_and_metrics_are_written_over_steps(tmp_path, monkeypatch):
    made = []

    def make(*args, **kwargs):
        made.append(Writer(*args, **kwargs))
        return made[-1]

    monkeypatch.setattr("foretell.callbacks.tensorboard.SummaryWriter", make)
    run = Played(tmp_path / "run", lambda: [TensorBoard()])
    run.episode("random", 1.5)
    run.learn(train_loss=0.5)
    run.end()
    run.resume(run.counters)
    first, second = made
    assert first.scalars[:2] == [("random/return", 1.5, 5), ("random/length", 5, 5)]
    assert ("learn/train_loss", 0.5, 5) in first.scalars and first.closed
    assert first.purge_step is None and second.purge_step == 6, "what comes after the checkpoint is written again"


def test_a_run_has_files_that_tensorboard_reads(trained):
    assert all(path.stat().st_size > 0 for path in (trained / "tensorboard").glob("events.out.tfevents.*"))
