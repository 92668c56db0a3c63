"""The automatic detector as the last step of a pipeline of scikit-learn, and another in its place; some seconds.

python examples/pipeline.py
"""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from subsetscan.detectors import AutomaticDetector, OutlierDetector

pixels, digits = load_digits(return_X_y=True)
known, odd = pixels[digits < 8], pixels[digits >= 8]  # eights and nines were never seen
order = np.random.default_rng(0).permutation(len(known))
clean, others = known[order[:900]], known[order[900:]]

for detector in (AutomaticDetector(), OutlierDetector(IsolationForest(random_state=0), random_state=0)):
    pipeline = make_pipeline(StandardScaler(), PCA(40, random_state=0), detector).fit(clean)
    scores = -np.concatenate([pipeline.score_samples(some) for some in (others, odd)])
    area = roc_auc_score(np.repeat([0, 1], [len(others), len(odd)]), scores)
    flagged = [np.mean(pipeline.predict(some) == -1) for some in (others, odd)]
    print(
        f"{type(detector).__name__}: AUROC {area:.3f}, flags {flagged[0]:.1%} of clean digits, "
        f"{flagged[1]:.1%} of new ones"
    )
