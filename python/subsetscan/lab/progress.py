"""Long work in stages: a bar for each, and an estimate of the time that is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tqdm.auto import tqdm

__all__ = ["Progress"]

_QUICK = 0.1  # of the time of the full work


@dataclass(kw_only=True)
class Progress:
    """Tells how far the work is.

    Parameters
    ----------
    progress : bool
        Whether to show bars.
    say : callable
        Takes a line for each stage that is done.
    quick : bool, default False
        Whether the work is the small version, of which each stage is taken to last a tenth.

    Attributes
    ----------
    seconds : dict of str to float
        What each stage took.
    """

    progress: bool
    say: Callable[[str], object]
    quick: bool = False
    seconds: dict[str, float] = field(default_factory=dict)
    _expected: dict[str, float] = field(default_factory=dict)  # seconds of the stages that are still to come
    _pace: tuple[float, float] = (0.0, 0.0)  # seconds taken and expected, of stages that were not kept already

    def expect(self, name: str, seconds: float) -> None:
        """Announce a stage, and how long the whole of it takes on two cores, roughly."""
        self._expected[name] = seconds * (_QUICK if self.quick else 1)

    @contextmanager
    def stage(self, name: str, n_images: int) -> Iterator[Callable[[int], object]]:
        """Show a bar for a stage, and say afterwards how long those that are still to come may take."""
        started = time.monotonic()
        with tqdm(total=n_images, desc=name, unit="image", disable=not self.progress) as bar:
            yield bar.update
        self.seconds[name] = taken = time.monotonic() - started
        expected = self._expected.pop(name, 0.0)
        if taken > expected / 5:
            self._pace = self._pace[0] + taken, self._pace[1] + expected
        pace = self._pace[0] / self._pace[1] if self._pace[1] else 1.0
        left = pace * sum(self._expected.values())
        self.say(f"{name}: {taken:.0f} s" + (f", about {left / 60:.0f} min left" if left > 30 else ""))
