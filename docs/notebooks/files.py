# %% [markdown]
# # Attacked files
#
# Magika, a classifier of file types by Google (PyPI: `magika`), is attacked: printable bytes of Python files are changed until it sees another type.
# Does a scan of its inner values notice, and does it find the bytes?

# %%
# %matplotlib inline
import sysconfig
from dataclasses import replace
from pathlib import Path

import numpy as np

from subsetscan import SequenceScanner, plot
from subsetscan.lab.peers.location import BYTES, TENSOR, model_file
from subsetscan.lab.subjects.magika_attack import attack
from subsetscan.lab.subjects.magika_network import Magika, as_tokens
from subsetscan.spaces import OnnxLayers

library = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
large = [path.read_bytes() for path in library if path.stat().st_size > 4096]
files = np.random.default_rng(0).permutation([as_tokens(content) for content in large])
magika = Magika()
files = files[magika.logits(files).argmax(axis=1) == magika.types.index("python")]
originals, clean = files[:8], files[8:]
assert len(clean) > 80

# %% [markdown]
# ## Attack
#
# Byte by byte, until Magika is 95 % sure of another type. This needs its weights, and no knowledge of the detector.

# %%
made = attack(magika, originals, (0.95,))[0.95]
changed = made.tokens != originals[made.sources]
types = [magika.types[n] for n in magika.logits(made.tokens).argmax(axis=1)]
assert "python" not in types
print(f"{len(types)} files, a median of {np.median(changed.sum(axis=1)):.0f} bytes changed")
print("now they are", ", ".join(sorted(set(types))))

# %% [markdown]
# ## Scan
#
# A layer has 512 positions of four bytes. Each is a row: which positions, and which of 256 units, are jointly unlike those of clean files?

# %%
scanner = SequenceScanner(OnnxLayers(model_file(), [TENSOR]), random_state=0).fit(clean)
found = scanner.scan(made.tokens)
untouched = scanner.scan(originals)
print(f"{found.is_flagged.mean():.0%} are flagged, {untouched.is_flagged.mean():.0%} of the originals")
assert found.is_flagged.mean() > 0.5

# %%
over = changed.reshape(len(changed), -1, BYTES).any(axis=2)
at = np.array([one.positions for one in found])
print(f"{over[at].mean():.0%} of the positions found lie over changed bytes, {over.mean():.0%} of all do")
assert over[at].mean() > 5 * over.mean()

# %% [markdown]
# ## Where
#
# The beginning of a file of which much is found. Underlined: what the attack changed. On red ground: what the scan found.

# %%
part = 220  # positions
n = int((at & over)[:, :part].sum(axis=1).argmax())
one = found[n]
start = replace(one, positions=one.positions[:part], strength=one.strength[:part])
text = bytes(made.tokens[n, : BYTES * part].astype(np.uint8))
plot.sequence(start, text, np.flatnonzero(changed[n, : BYTES * part]))

# %% [markdown]
# On 60 attacked files the numbers are [here](../sequences.md), on 17 types of files and with attackers who know the detector
# [here](../files.md).
