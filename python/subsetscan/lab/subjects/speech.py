"""The subject ``speech``: a network that tells speech from other sounds, on synthesised English speech; kept aside."""

from __future__ import annotations

import io
import shutil
import subprocess
import wave
from typing import Any

import numpy as np
import scipy  # its part `signal` is loaded where it is used

from ...networks import OnnxNetwork
from .found import file_of_package, version_of
from .subject import REPORT, Rows, Subject, make_subject
from .texts import english

__all__ = ["speech"]

_RATE, _CHUNK, _CONTEXT = 16_000, 512, 64  # samples in a second, in a step of the network, and before it
_STEPS = 30  # of a clip: 0.96 seconds
_CLIP = _STEPS * _CHUNK
_N_CLEAN, _N_KIND = 1400, 200
_VOICES = ("en-us", "en-us+m3", "en-us+f2", "en-gb", "en-gb+m7", "en-gb+f4")

_TENSORS = {
    "spectrum": "/stft/Sqrt_output_0",
    "convolution 1": "/Relu_output_0",
    "convolution 2": "/Relu_1_output_0",
    "convolution 3": "/Relu_2_output_0",
    "convolution 4": "/Relu_3_output_0",
    "recurrent": "/recurrent/Squeeze_output_0",
}
_LAYERS = {
    "spectrum": "size of 129 frequencies, mean over a clip of 0.96 seconds",
    "convolution 1": "first convolution (ReLU), mean over the clip",
    "convolution 2": "second convolution (ReLU), mean over the clip",
    "convolution 3": "third convolution (ReLU), mean over the clip",
    "convolution 4": "fourth convolution (ReLU), mean over the clip",
    "recurrent": "output of the recurrent layer, mean over the clip",
}


def speech(seed: int = 0, *, n_clean: int = _N_CLEAN, n_kind: int = _N_KIND) -> Subject:
    """Make the subject ``speech``.

    Parameters
    ----------
    seed : int, default 0
    n_clean, n_kind : int
        Numbers of clean clips, and of clips of each kind.

    Raises
    ------
    ModuleNotFoundError, FileNotFoundError
        If `silero-vad`, which is needed without what it depends on, or espeak-ng is missing.
    """
    rng = np.random.default_rng(seed)
    path = file_of_package("silero_vad", "data/silero_vad_16k_sequence.onnx", "silero-vad", alone=True)
    network = OnnxNetwork(path)
    session = network.session(network.find(_TENSORS.values()))
    clips = _spoken(english(), _VOICES, n_clean + n_kind, rng)
    sources, clean = clips[:n_kind], clips[n_kind:]
    noise = rng.standard_normal((n_kind, _CLIP))
    loud = sources.std(axis=1, keepdims=True)
    t = np.arange(_CLIP) / _RATE
    tones = np.sin(2 * np.pi * rng.uniform(100, 3000, (n_kind, 1)) * t)
    beats = np.where((t * rng.uniform(2, 8, (n_kind, 1))) % 1 < 0.1, noise, 0)
    kinds = {
        "noise 20 dB": ("speech with white noise, 20 dB below it", sources + 0.1 * loud * noise),
        "noise 5 dB": ("speech with white noise, 5 dB below it", sources + 0.56 * loud * noise),
        "hum": ("speech with a hum of 50 Hz and 150 Hz as loud", sources + loud * _hum(t)),
        "quiet": ("speech at a tenth of its loudness", 0.1 * sources),
        "clipped": ("speech, five times as loud and cut off at the size that it had", _clipped(sources)),
        "backwards": ("speech played backwards", sources[:, ::-1]),
        "fast": ("speech at one and a half times its speed and pitch", _at_pace(clips, n_kind, 3, 2)),
        "slow": ("speech at two thirds of its speed and pitch", _at_pace(clips, n_kind, 2, 3)),
        "muffled": ("speech through a low pass", scipy.signal.lfilter([0.08], [1, -0.92], sources, axis=1)),
        "telephone": ("speech at 4 kHz, and back", _coarse(sources)),
        "echo": ("speech with echoes after 90 ms and 180 ms", _echoed(sources)),
        "gaps": ("speech with silence in each second twentieth of a second", sources * (t % 0.1 < 0.05)),
        "two speakers": ("two clips at once", (sources + sources[::-1]) / 2),
        "few bits": ("speech in sixteen steps of loudness", _in_steps(sources)),
        "scrambled": ("speech cut into pieces of 50 ms, in a random order", _scrambled(sources, rng)),
        "whispered": ("a whispering voice", _spoken(english(), ("en-us+whisper",), n_kind, rng)),
        "German": ("a German voice, English text", _spoken(english(), ("de",), n_kind, rng)),
        "Mandarin": ("a voice for Mandarin, English text", _spoken(english(), ("cmn",), n_kind, rng)),
        "white noise": ("white noise as loud as speech", loud * noise),
        "tones": ("a tone of 100 Hz to 3 kHz as loud as speech", loud * tones),
        "beats": ("two to eight short bursts of noise a second", 2 * loud * beats),
    }
    return make_subject(
        "speech",
        f"Silero VAD, a recurrent network that finds speech (PyPI {version_of('silero-vad')}, MIT, ONNX)",
        REPORT,
        layers=_LAYERS,
        read=lambda clips: _rows(session, clips),
        clean=("clips of 0.96 seconds of English fortunes, spoken by six voices of espeak-ng", clean),
        kinds=kinds,
    )


def _rows(session: Any, clips: np.ndarray) -> Rows:
    rows: dict[str, list[np.ndarray]] = {layer: [] for layer in _TENSORS}
    start = np.zeros((1, 1, 128), np.float32)
    for clip in np.clip(clips, -1, 1).astype(np.float32):
        padded = np.concatenate([np.zeros(_CONTEXT, np.float32), clip])
        steps = np.lib.stride_tricks.sliding_window_view(padded, _CONTEXT + _CHUNK)[::_CHUNK]
        feeds = {"input": np.ascontiguousarray(steps), "h": start, "c": start}
        found = session.run(list(_TENSORS.values()), feeds)
        for layer, values in zip(_TENSORS, found, strict=True):
            # (step, channel, place), the last one (step, place, channel)
            axes = (0, 1) if layer == "recurrent" else (0, 2)
            rows[layer].append(values.mean(axis=axes))
    return {layer: np.stack(parts) for layer, parts in rows.items()}


def _spoken(texts: list[str], voices: tuple[str, ...], n: int, rng: np.random.Generator) -> np.ndarray:
    """Have texts spoken, and cut the speech into clips, silent ones left out; at most four of one text."""
    clips: list[np.ndarray] = []
    while len(clips) < n:
        text, voice = texts[rng.integers(len(texts))], voices[rng.integers(len(voices))]
        sound = _say(text, voice, int(rng.integers(130, 200)), int(rng.integers(30, 70)))
        pieces = [sound[i : i + _CLIP] for i in range(0, len(sound) - _CLIP, _CLIP)]
        clips += [piece for piece in pieces if np.mean(np.abs(piece) > 0.02) > 0.3][:4]
    return np.stack(clips)[rng.permutation(len(clips))[:n]]


def _say(text: str, voice: str, pace: int, pitch: int) -> np.ndarray:
    program = shutil.which("espeak-ng")
    if program is None:
        raise FileNotFoundError("no espeak-ng: apt install espeak-ng")
    command = [program, "-v", voice, "-s", str(pace), "-p", str(pitch), "--stdout", "--stdin"]
    made = subprocess.run(command, input=text.encode(), capture_output=True, check=True).stdout  # noqa: S603
    with wave.open(io.BytesIO(made)) as file:
        rate = file.getframerate()
        sound = np.frombuffer(made[44:], "<i2").astype(np.float32) / 32768
    common = int(np.gcd(rate, _RATE))
    return scipy.signal.resample_poly(sound, _RATE // common, rate // common).astype(np.float32)


def _hum(t: np.ndarray) -> np.ndarray:
    return np.sin(2 * np.pi * 50 * t) + 0.5 * np.sin(2 * np.pi * 150 * t)


def _clipped(clips: np.ndarray) -> np.ndarray:
    most = np.abs(clips).max(axis=1, keepdims=True)
    return np.clip(5 * clips, -most, most)


def _at_pace(clips: np.ndarray, n: int, faster: int, slower: int) -> np.ndarray:
    """Play pairs of clips faster or slower, and take the beginning."""
    pairs = np.concatenate([clips[:n], clips[:n][::-1]], axis=1)
    return scipy.signal.resample_poly(pairs, slower, faster, axis=1)[:, :_CLIP]


def _coarse(clips: np.ndarray) -> np.ndarray:
    return scipy.signal.resample_poly(scipy.signal.resample_poly(clips, 1, 4, axis=1), 4, 1, axis=1)[:, :_CLIP]


def _echoed(clips: np.ndarray) -> np.ndarray:
    echoed, delay = clips.copy(), int(0.09 * _RATE)
    for times, share in ((1, 0.6), (2, 0.36)):
        echoed[:, times * delay :] += share * clips[:, : -times * delay]
    return echoed


def _in_steps(clips: np.ndarray) -> np.ndarray:
    most = np.abs(clips).max(axis=1, keepdims=True)
    return np.round(8 * clips / most) * most / 8


def _scrambled(clips: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    length = _RATE // 20
    n = clips.shape[1] // length
    pieces = clips[:, : n * length].reshape(len(clips), n, length)
    mixed = rng.permuted(np.tile(np.arange(n), (len(clips), 1)), axis=1)
    mixed_pieces = np.take_along_axis(pieces, mixed[..., np.newaxis], axis=1)
    return np.concatenate([mixed_pieces.reshape(len(clips), -1), clips[:, n * length :]], axis=1)
