"""Watch a detector at work: has the share that it flags moved away from what was asked for? Some seconds.

python examples/monitoring.py
"""

import numpy as np
from scipy.stats import binomtest

from subsetscan.detectors import AutomaticDetector

RATE, BATCH, WINDOW, LEVEL = 0.05, 100, 5, 1e-4  # watch 5 batches of 100; warn where chance gives this once in 10,000

rng = np.random.default_rng(0)
mixing = rng.normal(size=(12, 60))


def draw(n: int, drift: float) -> np.ndarray:
    """Draw rows of a layer; a drift makes them noisier."""
    return rng.normal(size=(n, 12)) @ mixing + (1 + drift) * rng.normal(size=(n, 60))


detector = AutomaticDetector(false_positive_rate=RATE).fit(draw(1500, 0.0))
recent: list[int] = []
warned = None
for batch in range(40):
    rows = draw(BATCH, 0.0 if batch < 20 else 0.15)  # the camera is another from batch 20 on
    recent = [*recent, int((detector.p_values(rows) <= RATE).sum())][-WINDOW:]
    n = BATCH * len(recent)
    if warned is None and binomtest(sum(recent), n, RATE).pvalue < LEVEL:
        warned = batch
        print(f"batch {batch}: {sum(recent) / n:.1%} of the last {n} rows are flagged, where {RATE:.0%} are asked for")
        # Somebody looks: rows of now are fine, they are only others. They become the background.
        detector.fit(draw(1500, 0.15))
        recent = []
print(f"from then on: {sum(recent) / (BATCH * len(recent)):.1%} flagged")
