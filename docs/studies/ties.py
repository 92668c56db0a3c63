"""What do ties mean in a ReLU layer? How much of an image each treatment counts, and what that does to detection.

    python docs/studies/ties.py               # on what the package carries; half a minute

writes ties.md and ties.png.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from subsetscan import Background, plot
from subsetscan.lab.attacks import attack
from subsetscan.lab.datasets import load_sample
from subsetscan.lab.networks import load_pretrained
from subsetscan.measures import auroc
from subsetscan.spaces import KerasLayers

HERE = Path(__file__).parent
LAYER = "conv2d_1"
TIES = ("upper", "midrank", "random", "range")
TAILS = ("upper", "lower")
TEXT = """\
# What ties mean in a ReLU layer

**Asked.** A ReLU turns every negative value into 0, so that many activations are equal. An activation that ties with the background has a range of
p-values, [p_min, p_max]. Which one should a scan use?

**Found.** In the first convolutional layer of the autoencoder ({n_nodes:,} nodes, 1,000 Fashion-MNIST images as [background](../glossary.md#scanning)) {zeros:.0%} of all
activations are exactly 0, and {n_dead:,} nodes are 0 in every image. AUROC (0.5 is chance, 1 is best) of attacked images, by Higher Criticism, and the time
of one scan of 400 images on two threads:

| ties | upper tail | lower tail | time, lower tail |
|---|---|---|---|
{lead}

**For you:** keep `"{best}"`{default}: it has the highest mean AUROC over both tails and statistics, {best_mean:.3f}.

**Make it again.** `python docs/studies/ties.py` takes half a minute, on what the package carries. Other terms are in the [glossary](../glossary.md).

## The four treatments

* `"upper"` (the paper): p_max. In the upper tail every 0 has p = 1 and is out of the scan; in the lower tail it has the
  share of zeros of its node, small where zeros are rare. Conservative: fewer nodes than the share alpha count.
* `"midrank"`: the middle. A node that is always 0 has p = 1/2 in both tails, and alpha = 1/2 counts it.
* `"random"`: a grid point drawn from the range. On average the share alpha counts, but which nodes is chance, and
  another seed gives another score.
* `"range"` (McFowland et al. 2013): a node counts with the share of the range that lies below alpha. On average the
  share alpha counts, without chance; only nodes whose share is above alpha can help a subset. Takes more time.

![share of nodes that count](ties.png)

The dotted line is what continuous values would give. AUROC [95 %] of {n_attacked} images attacked by FGSM (eps 0.03,
protocol `valid`) against 400 clean ones, the median subset of the clean ones by Berk-Jones, and the time of one scan of
400 images on two threads:

| tail | ties | Berk-Jones | Higher Criticism | subset | time |
|---|---|---|---|---|---|
"""


def page(cells, **numbers):
    """Fill in the page: `cells` has, for each tail and treatment, the last four columns of the table."""
    means = {ties: np.mean([float(cells[tail, ties][n].split()[0]) for tail in TAILS for n in (0, 1)]) for ties in TIES}
    best = max(means, key=means.get)
    lead = [
        f'| `"{ties}"` | {cells["upper", ties][1].split()[0]} | {cells["lower", ties][1].split()[0]} | {cells["lower", ties][3]} |'
        for ties in TIES
    ]
    rows = [f"| {tail} | {ties} | {' | '.join(own)} |" for (tail, ties), own in cells.items()]
    default = ", the default" if best == TIES[0] else ""
    text = TEXT.format(lead="\n".join(lead), best=best, best_mean=means[best], default=default, **numbers)
    return text + "\n".join(rows) + "\n"


def counted(background, images, tail, ties, alphas):
    """Measure which share of all nodes counts at each alpha."""
    if ties == "range":
        low, high = np.moveaxis(background.p_value_ranges(images, tail), -1, 0)
        return [float(np.clip((alpha - low) / (high - low), 0, 1).mean()) for alpha in alphas]
    p_values = background.p_values(images, tail, ties)
    return [float((p_values <= alpha).mean()) for alpha in alphas]


def main():
    """Fit on clean images, count, scan, draw, write."""
    images, labels = load_sample()
    space = KerasLayers(load_pretrained("autoencoder"), [LAYER])
    classifier = load_pretrained("classifier")
    attacked = attack(classifier, images[1400:], labels[1400:], "fgsm", eps=0.03).images
    values = space.transform(images[:1400])[LAYER]
    clean, anomalous = values[1000:], space.transform(attacked)[LAYER]
    background = Background(values[:1000])
    alphas = np.linspace(0, 1, 51)[1:]
    curves = {tail: {ties: counted(background, clean[:50], tail, ties, alphas) for ties in TIES} for tail in TAILS}
    plot.save(plot.counted_shares(alphas, curves), HERE / "ties.png")

    found = {}
    for tail in TAILS:
        for ties in TIES:
            cells, sizes = [], []
            for statistic in ("berk-jones", "higher-criticism"):
                started = time.perf_counter()
                of_clean = background.scan(clean, statistic=statistic, tail=tail, ties=ties)
                seconds = time.perf_counter() - started
                of_attacked = background.scan(anomalous, statistic=statistic, tail=tail, ties=ties)
                cells.append(str(auroc(of_clean.scores, of_attacked.scores)))
                sizes.append(np.median(of_clean.sizes))
            found[tail, ties] = [*cells, f"{sizes[0]:,.0f}", f"{seconds:.2f} s"]
    text = page(
        found,
        n_nodes=values.shape[1],
        zeros=float((values[:1000] == 0).mean()),
        n_dead=int((values[:1000] == 0).all(axis=0).sum()),
        n_attacked=len(anomalous),
    )
    (HERE / "ties.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
