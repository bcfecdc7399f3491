"""A loop for what is only ever called back in its next turn."""

from collections.abc import Callable


class Turns:
    """A loop that runs what waits for its next turn when it is told to."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], None]] = []

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.soon.append(callback)

    def turn(self) -> int:
        soon, self.soon = self.soon, []
        for callback in soon:
            callback()
        return len(soon)
