"""What was aimed at, and where its measured value lies among the results of a machine; nothing is measured here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["GOALS", "Goal"]

Results = dict[str, Any]


@dataclass(frozen=True)
class Goal:
    """A ratio or, where `is_time`, seconds: `least` or `most` is what was aimed at; None where no number was set."""

    what: str
    measure: Callable[[Results], float]
    least: float | None = None
    most: float | None = None
    is_time: bool = False

    def measured(self, results: Results) -> float | None:
        """Return the measured value, or None where that part was not measured."""
        try:
            return self.measure(results)
        except KeyError:
            return None

    def missed(self, value: float) -> bool:
        return (self.least is not None and value < self.least) or (self.most is not None and value > self.most)


def one_thread(results: Results, case: str) -> Results:
    return results["cases"][case]["threads"]["1"]


def over_art(what: str, case: str, simd: str | None = None) -> Callable[[Results], float]:
    """How many times our time ART takes for a case: among all rivals, or alone beside a set of instructions."""

    def measure(results: Results) -> float:
        found = (results["cases"][case]["sets"][simd] if simd else one_thread(results, case))[what]
        return found["ART"]["median"] / found["subsetscan"]["median"]

    return measure


def over_read_limit(case: str) -> Callable[[Results], float]:
    def measure(results: Results) -> float:
        found = one_thread(results, case)
        return found["score"]["subsetscan"]["median"] / found["read_limit"]

    return measure


def warm_image(case: str) -> Callable[[Results], float]:
    return lambda results: results["one_image"][case]["1"]["warm"]["subsetscan"]["median"]


def ties_over_upper(ties: str) -> Callable[[Results], float]:
    return lambda results: (
        results["ties"]["a"]["time"][ties]["median"] / results["ties"]["a"]["time"]["upper"]["median"]
    )


def group_over_art(restarts: str) -> Callable[[Results], float]:
    def measure(results: Results) -> float:
        taken = results["groups"]["a"]["1"][restarts]["time"]
        # ART computes no bound; earlier results have our time with one only.
        ours = taken.get("without bound", taken["subsetscan"])
        return taken["ART"]["median"] / ours["median"]

    return measure


GOALS = (
    Goal("scores of case a: ART's time / ours", over_art("score", "a"), least=90),
    Goal("scores of case a, AVX2: ART's time / ours", over_art("score", "a", "avx2"), least=45),
    Goal("scores of case b: ART's time / ours", over_art("score", "b"), least=90),
    Goal("scores of case a: our time / read limit", over_read_limit("a"), most=5),
    Goal("scores of case b: our time / read limit", over_read_limit("b"), most=8),
    Goal("one image of case a, warm", warm_image("a"), most=60e-6, is_time=True),
    Goal("one image of case b, warm", warm_image("b"), most=8e-6, is_time=True),
    Goal("fit of case a, AVX-512: ART's sort / ours", over_art("fit", "a", "avx512"), least=4),
    Goal("fit of case a, AVX2: ART's sort / ours", over_art("fit", "a", "avx2"), least=2.5),
    *(
        Goal(f'ties "{ties}" over "upper", case a', ties_over_upper(ties), most=2)
        for ties in ("midrank", "random", "range")
    ),
    Goal("group of case a, ten starts: ART's time / ours", group_over_art("10"), least=60),
    Goal("group of case a, one start: ART's time / ours", group_over_art("1"), least=30),
)
