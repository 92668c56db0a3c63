"""Draw where a file was changed: Python's own library, attacks on Magika, a classifier of file types, and a scan within.

Needs the packages magika and subsetscan[onnx,plots]; about a minute. python docs/sequences.py
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from subsetscan import SequenceScanner, plot
from subsetscan.lab.peers.location import BYTES, TENSOR, draw_files, model_file
from subsetscan.spaces import OnnxLayers

N_CLEAN, N_ATTACKED = 400, 60
PART = 1024  # bytes of the beginning that are drawn

PAGE = """# Where in one input: words, regions, bytes

`SequenceScanner` takes each position of one layer as a row: the tokens of a text, the places of an image, the bytes of a
file. It finds the positions, and the units of the layer, that are jointly anomalous, and says how unusual that is among
clean inputs of any length.

![An attacked file, and where the scan within it points](sequences.png)

*The beginning of an attacked file of Python's own library. Underlined: the bytes that the attack changed, until Magika saw
another type of file. On red ground: the positions that the scan found, four bytes each; the darker, the more of the units are
anomalous there.*

**Asked**: does it point at the bytes that an attack changed? Attacks change printable bytes of Python files, until Magika, a
classifier of file types, sees another type with a probability of at least 0.95.

**Found**: {measured}.

**Means**: it points rightly more often than not. As a detector it is as good as the automatic detector on all layers of the same network, and on
text files better: [both, on other files of 17 types](files.md). The p-value is that of two: the block's score, and the distance of the strangest
position. The layer, the residuals of values, the largest p-value that counts (0.001) and the distance were chosen on other draws of files of
the same library, which are partly the same files.

```python
scanner = SequenceScanner(OnnxLayers("model.onnx", ["name of a tensor"])).fit(clean)
found = scanner.scan(inputs)
found.p_value, found.spans, found.nodes  # one for each input
print(found[0])  # a text has marks under what is anomalous
```

With texts the space is `TransformerLayers(model, tokenizer, ["mlp_4"])`, and the spans are characters; with images it is a
convolutional layer, and `found[0].positions` is a mask of the layer's height and width. `subsetscan.plot.sequence` draws
each of them.

## A page of many inputs

```python
from subsetscan.plot.report import sequence_results, write_report

results = sequence_results({{"clean": scanner.scan(fresh), "new": found}}, {{"new": contents}})
write_report(results, "report.html")
```

The page has scores, verdicts and calibration of all inputs, and the most anomalous ones with their words or bytes underlined. It
needs no network and no other file. `contents` are the str or bytes that inputs stand for; texts that were scanned need none.
`subsetscan experiment files --report` and `subsetscan experiment texts --report` write such a page.

Made by `python docs/sequences.py`, with magika 1.0 (PyPI), in about a minute.
"""


def main() -> None:
    files = draw_files(N_CLEAN, N_ATTACKED)
    changed = files.attacked != files.originals
    scanner = SequenceScanner(OnnxLayers(model_file(), [TENSOR]), random_state=0).fit(files.clean)
    found, untouched = scanner.scan(files.attacked), scanner.scan(files.originals)
    over = [mask.reshape(-1, BYTES).any(axis=1) for mask in changed]
    precision = [(own & one.positions).sum() / one.positions.sum() for own, one in zip(over, found, strict=True)]
    recall = [np.repeat(one.positions, BYTES)[own].mean() for own, one in zip(changed, found, strict=True)]
    measured = (
        f"{len(files.clean)} clean files; {len(found)} attacked ones, a median of {np.median(changed.sum(axis=1)):.0f} bytes changed; "
        f"{found.is_flagged.mean():.0%} flagged, {untouched.is_flagged.mean():.0%} of the originals; "
        f"{np.mean(precision):.0%} of the positions found lie over changed bytes ({np.mean(over):.0%} of all do), "
        f"{np.mean(recall):.0%} of the changed bytes are found"
    )
    print(measured)
    Path(__file__).with_suffix(".md").write_text(PAGE.format(measured=measured), encoding="utf-8")
    n = int(np.argmin(found.p_value))
    text = bytes(files.attacked[n, :PART].astype(np.uint8))
    start = slice(0, PART // BYTES)
    drawn = replace(found[n], positions=found[n].positions[start], strength=found[n].strength[start])
    plot.save(plot.sequence(drawn, text, np.flatnonzero(changed[n, :PART])), Path(__file__).with_suffix(".png"))


if __name__ == "__main__":
    main()
