"""What watches a run."""

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from foretell.training.loop import Loop


@runtime_checkable
class Observer(Protocol):
    """Somebody who watches a run: a progress display, a log. Watching never changes the run.

    What an observer does not define does nothing.
    """

    def started(self, loop: "Loop") -> None:
        return

    def stepped(self, loop: "Loop") -> None:
        return

    def learning(self, loop: "Loop") -> None:
        return

    def learned(self, loop: "Loop", row: dict[str, Any]) -> None:
        return

    def finished_episode(self, loop: "Loop", row: dict[str, Any]) -> None:
        return

    def warned(self, text: str) -> None:
        return

    def interrupted(self, loop: "Loop") -> None:
        return

    def stopped(self, loop: "Loop") -> None:
        return
