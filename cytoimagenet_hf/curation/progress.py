"""What long work tells of itself; the command line draws it, a library user may ignore it."""

from typing import Protocol


class Progress(Protocol):
    """Receives what a build is doing."""

    def start(self, stage: str, total: int, unit: str) -> None:
        """Begin a stage of `total` pieces of work."""
        ...

    def step(self, done: int, note: str = "") -> None:
        """Count finished pieces of the stage."""
        ...

    def say(self, text: str) -> None:
        """Tell one thing that people should read."""
        ...


class Silent:
    """Progress that nobody looks at."""

    def start(self, stage: str, total: int, unit: str) -> None:
        """Ignore."""

    def step(self, done: int, note: str = "") -> None:
        """Ignore."""

    def say(self, text: str) -> None:
        """Ignore."""
