"""What kinds of anomalous inputs have in common over all networks: attacks, noise, other classes, other sources."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["ATTACKS", "GROUPS", "KINDS", "NOISE", "OTHER_CLASSES", "OTHER_SOURCES", "PAIRS", "group_of"]

ATTACKS, NOISE, OTHER_CLASSES, OTHER_SOURCES = "attacks", "noise and changes", "other classes", "other sources"
GROUPS: Mapping[str, str] = {
    ATTACKS: "inputs made to deceive the network, or with something smuggled in",
    NOISE: "clean inputs with noise, or changed as a whole, with no aim",
    OTHER_CLASSES: "inputs of the same sort, but of another type, topic, font or voice",
    OTHER_SOURCES: "inputs of another sort altogether, from elsewhere",
}

_IMAGES = (
    "faint noise", "noise", "salt and pepper", "blur", "coarse", "low contrast", "dark", "bright", "inverted",
    "turned a little", "upside down", "mirrored", "shifted", "patch missing", "scrambled",
)  # fmt: skip
_EPSILONS = ("FGSM 0.02", "FGSM 0.05", "BIM 0.01", "BIM 0.03")
_ON_DIGITS = ("FGSM 0.1", "FGSM 0.2", "BIM 0.05", "BIM 0.1")
_SMALL: Mapping[str, tuple[str, ...]] = {
    ATTACKS: _EPSILONS,
    NOISE: (*_IMAGES, *(f"noise as {attack}" for attack in _EPSILONS)),
    OTHER_SOURCES: ("digits",),
}
_OF_PHOTOGRAPHS = (
    "faint noise", "noise", "salt and pepper", "blur", "coarse", "low contrast", "dark", "inverted", "upside down",
    "patch missing", "scrambled", "grey", "colours exchanged", "JPEG", "two in one",
)  # fmt: skip
_FROM_ELSEWHERE = ("text", "clothes", "PNG files")
_ON_IMAGENET = ("FGSM 0.005", "FGSM 0.02", "BIM 0.002", "BIM 0.01")
_AIMS = ("attack, just enough", "attack, confident")

KINDS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "magika": {
        ATTACKS: (*_AIMS, "library inside", "library appended", "base64 inside", "base64 appended"),
        NOISE: (
            "upper case", "rot13", "CRLF", "tabs", "UTF-16", "no spaces", "written anew", "shuffled lines",
            "shuffled words", "shuffled bytes", "reversed", "truncated", "20 random bytes", "200 random bytes",
            "base64", "keyed", *(f"random as {aim}" for aim in _AIMS),
        ),
        OTHER_CLASSES: (
            "HTML", "C headers", "C++ headers", "C and C++", "reStructuredText", "Markdown", "JavaScript", "JSON",
            "XML", "YAML", "Perl", "Vim script", "plain text", "gzip", "PNG", "ELF", "compiled Python",
            "translations", "archives", "jar",
        ),
        OTHER_SOURCES: ("stub files",),
    },
    "encoder": {
        ATTACKS: ("injected",),
        NOISE: (
            "shuffled words", "typing errors", "misread letters", "odd words", "truncated", "repeated",
            "reversed words", "reversed letters", "spaced letters", "no spaces", "no vowels", "random characters",
            "base64", "markup",
        ),
        OTHER_CLASSES: ("computers", "verses"),
        OTHER_SOURCES: (
            "German", "Spanish", "Italian", "Polish", "Czech", "Russian", "Python", "C", "HTML", "JSON",
        ),
    },
    "classifier": _SMALL,
    "autoencoder": _SMALL,
    "mnist": {
        ATTACKS: _ON_DIGITS,
        NOISE: (*_IMAGES, *(f"noise as {attack}" for attack in _ON_DIGITS)),
        OTHER_SOURCES: ("clothes",),
    },
    "photographs": {NOISE: _OF_PHOTOGRAPHS, OTHER_SOURCES: _FROM_ELSEWHERE},
    "imagenet": {
        ATTACKS: _ON_IMAGENET,
        NOISE: (*_OF_PHOTOGRAPHS, *(f"noise as {attack}" for attack in _ON_IMAGENET)),
        OTHER_SOURCES: _FROM_ELSEWHERE,
    },
    "lines": {
        NOISE: (*_IMAGES, "struck through", "upper half", "two lines", "stretched"),
        OTHER_CLASSES: ("typewriter", "mathematics", "digits"),
        OTHER_SOURCES: ("Russian", "clothes"),
    },
    "speech": {
        NOISE: (
            "noise 20 dB", "noise 5 dB", "hum", "quiet", "clipped", "backwards", "fast", "slow", "muffled",
            "telephone", "echo", "gaps", "two speakers", "few bits", "scrambled",
        ),
        OTHER_CLASSES: ("whispered", "German", "Mandarin"),
        OTHER_SOURCES: ("white noise", "tones", "beats"),
    },
}  # fmt: skip

# Attacks, and the same inputs with as much random change.
PAIRS: Mapping[str, Mapping[str, str]] = {
    "magika": {aim: f"random as {aim}" for aim in _AIMS},
    **{
        name: {attack: f"noise as {attack}" for attack in attacks}
        for name, attacks in {
            "classifier": _EPSILONS,
            "autoencoder": _EPSILONS,
            "mnist": _ON_DIGITS,
            "imagenet": _ON_IMAGENET,
        }.items()
    },
}


def group_of(network: str, kind: str) -> str:
    """Name the group of a kind.

    Parameters
    ----------
    network, kind : str
        As in `SUBJECTS`, and in the subject's `inputs`.

    Raises
    ------
    ValueError
        If it is in none: a new kind must be put in one of `KINDS`.
    """
    for group, kinds in KINDS.get(network, {}).items():
        if kind in kinds:
            return group
    raise ValueError(f"{kind!r} of {network} is in no group: put it in one of {', '.join(GROUPS)}")
