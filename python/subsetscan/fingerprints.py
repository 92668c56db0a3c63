"""Whether networks are what they were when a scanner was fitted: the same weights, settings and layers."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from ._labels import fingerprint_of_classifier
from .spaces.base import Space

__all__ = ["NetworkWatch", "differing"]

_CLASSIFIER = "the classifier"  # beside the names of spaces


class NetworkWatch:
    """Warns of networks that are not what they were.

    Parameters
    ----------
    spaces : sequence of Space
    passes : sequence of Space
        The same, where several that share a pass are one.
    classifier : optional
        The classifier, where its labels matter.

    Attributes
    ----------
    fingerprints : dict of str to str
        As they were when fitted, of each name whose space has one, and of the classifier.
    """

    def __init__(self, spaces: Sequence[Space], passes: Sequence[Space], classifier: Any = None) -> None:
        self._spaces = spaces
        self._passes = passes
        self._stamps: list[str | None] = []
        self._classifier = classifier
        self._warned_of: dict[str, str] = {}
        self.fingerprints: dict[str, str] = {}

    def now(self) -> dict[str, str]:
        """Return the fingerprints as they are now."""
        found = {name: digest for space in self._spaces if (digest := space.fingerprint()) for name in space.names}
        if self._classifier is not None and (digest := fingerprint_of_classifier(self._classifier)):
            found[_CLASSIFIER] = digest
        return found

    def expect(self, fingerprints: Mapping[str, str]) -> None:
        """Take these as those of the fit."""
        self.fingerprints, self._warned_of, self._stamps = dict(fingerprints), {}, []

    def look(self, what: str, stacklevel: int) -> None:
        """Warn, once for each, of a network that is another now; `what` says what was fitted."""
        stamps = [space.stamp() or space.fingerprint() for space in self._passes]
        if stamps == self._stamps and self._classifier is None:
            return
        self._stamps = stamps
        now = self.now()
        others = differing(self.fingerprints, now)
        if new := [name for name, digest in others.items() if self._warned_of.get(name) != digest]:
            warnings.warn(
                f"{what} with another network for {', '.join(new)}: its weights, its settings, or what is read of it "
                "differ, so that scores and p-values mean nothing; take the network it was fitted with, or fit again",
                stacklevel=stacklevel,
            )
        self._warned_of = others


def differing(expected: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """Return the fingerprints of now that are others than expected; what has none now is not told."""
    return {name: now[name] for name, own in expected.items() if now.get(name, own) != own}
