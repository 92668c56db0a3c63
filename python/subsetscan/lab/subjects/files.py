"""The subject ``magika``: a classifier of file types, clean ones are Python files, anomalous ones others.

The files are those of the machine: of Debian's packages and of the Python installation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .edits import EDITS
from .found import draw, version_of
from .magika_attack import Attacked, attack, changed_at_random
from .magika_network import LAYERS, Magika, as_tokens
from .subject import CHOOSE, Subject, make_subject

__all__ = ["magika"]

# Endings of other types of files that lie on most machines, and what they are.
_TYPES: dict[str, tuple[str, ...]] = {
    "HTML": ("html",), "C headers": ("h",), "C++ headers": ("hpp",), "C and C++": ("c", "cc", "cpp"),
    "reStructuredText": ("rst",), "Markdown": ("md",), "JavaScript": ("js",), "JSON": ("json",), "XML": ("xml", "svg"),
    "YAML": ("yaml", "yml"), "Perl": ("pm", "pl"), "Vim script": ("vim",), "plain text": ("txt",), "gzip": ("gz",),
    "PNG": ("png",), "ELF": ("so",), "compiled Python": ("pyc",), "translations": ("mo",), "archives": ("a",),
    "jar": ("jar",), "stub files": ("pyi",),
}  # fmt: skip

_N_CLEAN, _N_KIND, _N_LEAST, _N_ATTACKED = 1500, 200, 100, 150
_MOST_A_PACKAGE = 100
_HIGH, _LOW = 0.95, 0.5  # probabilities of another type that an attack is to reach


def magika(seed: int = 0, *, n_clean: int = _N_CLEAN, n_kind: int = _N_KIND, n_attacked: int = _N_ATTACKED) -> Subject:
    """Make the subject ``magika``.

    Parameters
    ----------
    seed : int, default 0
    n_clean, n_kind, n_attacked : int
        Numbers of clean files, of files of each kind, and of files that are attacked. A type of which the machine has
        fewer than 100 files is left out.

    Raises
    ------
    ModuleNotFoundError
        If `magika`, onnx or onnxruntime is not installed.
    """
    rng = np.random.default_rng(seed)
    network = Magika()
    clean, sources = _python_files(network, n_clean, n_kind, rng)
    libraries = [content[4096:] for content in draw(["so"], n_kind, rng, most_a_package=_MOST_A_PACKAGE)]
    kinds: dict[str, tuple[str, np.ndarray]] = {}
    for name, endings in _TYPES.items():
        files = draw(endings, n_kind, rng, most_a_package=_MOST_A_PACKAGE)
        if len(files) >= min(n_kind, _N_LEAST):
            kinds[name] = f"files that end in .{', .'.join(endings)}", _tokens(files)
    for name, (about, edit) in EDITS.items():
        payloads = [libraries[i % len(libraries)] for i in range(len(sources))] if libraries else [b""] * len(sources)
        edited = [edit(content, rng, payload) for content, payload in zip(sources, payloads, strict=True)]
        kinds[name] = f"Python files: {about}", _tokens([content for content in edited if content])
    originals = _tokens(sources[:n_attacked])
    for confidence, attacked in attack(network, originals, (_LOW, _HIGH)).items():
        name = "attack, confident" if confidence == _HIGH else "attack, just enough"
        if len(attacked.tokens):
            kinds[name] = _about(attacked, len(originals), confidence), attacked.tokens
            kinds[f"random as {name}"] = (
                "as many bytes of the same files changed to random printable ones",
                changed_at_random(originals, attacked, rng),
            )
    return make_subject(
        "magika",
        f"Magika, a classifier of file types by content (PyPI {version_of('magika')}, Apache-2.0, ONNX)",
        CHOOSE,
        layers=LAYERS,
        read=network.rows,
        clean=("Python source files of the machine that the network sees as such, of 4 kB or more", _tokens(clean)),
        kinds=kinds,
        head=("layer norm", network.head),
    )


def _python_files(
    network: Magika, n_clean: int, n_sources: int, rng: np.random.Generator
) -> tuple[list[bytes], list[bytes]]:
    """Draw Python files that are seen as such: clean ones, and others for edits and attacks."""
    files = draw(["py"], n_clean + n_sources + n_clean // 10, rng, most_a_package=_MOST_A_PACKAGE)
    seen = network.logits(_tokens(files)).argmax(axis=1) == network.types.index("python")
    files = [content for content, is_python in zip(files, seen, strict=True) if is_python][: n_clean + n_sources]
    n_sources = min(n_sources, len(files) // 3)  # where there are too few
    return files[n_sources:], files[:n_sources]


def _tokens(files: Sequence[bytes]) -> np.ndarray:
    return np.stack([as_tokens(content) for content in files])


def _about(attacked: Attacked, n_tried: int, confidence: float) -> str:
    return (
        f"Python files with printable bytes changed, a median of {np.median(attacked.n_changed):.0f}, until another "
        f"type had a probability of {confidence} (median {np.median(attacked.confidences):.3f}); "
        f"{len(attacked.tokens)} of {n_tried} succeeded within 40 changes"
    )
