"""Draw the picture in the README: an image with noise on its upper half, and the nodes that give it away.

python docs/explanation.py
"""

from pathlib import Path

import numpy as np

from subsetscan import ModelScanner, SubsetScanDetector, plot
from subsetscan.lab.datasets import load_sample
from subsetscan.lab.networks import load_pretrained, start_keras
from subsetscan.spaces import ReconstructionError

IMAGE = 1020  # of the sample
UPPER_HALF = slice(0, 14)


def main() -> None:
    start_keras()
    images, _ = load_sample()
    space = ReconstructionError(load_pretrained("autoencoder"))
    scanner = ModelScanner(space, SubsetScanDetector(random_state=0)).fit(images[:1000])
    noisy = images[IMAGE].copy()
    noise = np.random.default_rng(0).normal(0, 0.15, noisy[UPPER_HALF].shape)
    noisy[UPPER_HALF] = np.clip(noisy[UPPER_HALF] + noise, 0, 1)
    explanation = scanner.explain(noisy)
    print(explanation)
    (told,) = explanation.spaces.values()
    print(f"{told.leading[UPPER_HALF].sum()} of {told.leading.sum()} leading nodes lie in the upper half", end="; ")
    print(f"without the noise p = {float(scanner.p_values(images[[IMAGE]])['reconstruction_error'][0]):.3g}")
    plot.save(plot.explanation(explanation, noisy), Path(__file__).with_suffix(".png"))


if __name__ == "__main__":
    main()
