"""How far the work has come."""

from collections.abc import Callable


class Tally:
    """Counts the steps of a stage, and calls `report(done, total)` when it begins and after each step."""

    def __init__(self, report: Callable[[int, int], None], total: int):
        self.report, self.total = report, total
        self.done: int | None = None  # not begun

    def begin(self) -> None:
        """Reports the beginning; a second call does nothing."""
        if self.done is None:
            self.done = 0
            self.report(0, self.total)

    def add(self, steps: int = 1) -> None:
        self.begin()
        self.done += steps
        self.report(self.done, self.total)
