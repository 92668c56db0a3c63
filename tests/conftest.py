"""What several tests share: small networks and images."""

import contextlib
import os
import signal
import sys
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from rounding import ROUNDS_ALIKE

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Without AVX-512 TensorFlow leaves oneDNN off, and then has no convolutions of channels first.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# Tests already run in as many processes as there are cores. How an operation is parted among threads may decide how its
# results are rounded, so this stays as it is where tests ask for equal bits.
if not ROUNDS_ALIKE:
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # by a shell that runs the tests in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The attack library configures logging when it is first imported, which closes the stream of a handler that comes with
# TensorFlow: pytest's own, if that happens within a test. Here it is still the standard one.
with contextlib.suppress(ImportError), warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import art.attacks.evasion  # noqa: F401

settings.register_profile(
    "default", deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("default")


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk():
    """Tests write thousands of files, which need not survive a power failure; test_files.py tests what is asked."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture
def rng():
    return np.random.default_rng(20260101)


@pytest.fixture(scope="session")
def autoencoder():
    """A small untrained autoencoder over images of 8 x 8 pixels."""
    keras = pytest.importorskip("keras")
    keras.utils.set_random_seed(0)
    layers = keras.layers
    images = keras.Input((8, 8, 1))
    x = layers.Conv2D(3, 3, padding="same", activation="relu", name="encode")(images)
    x = layers.MaxPooling2D(2, name="pool")(x)
    x = layers.UpSampling2D(2, name="up")(x)
    return keras.Model(images, layers.Conv2D(1, 3, padding="same", activation="sigmoid", name="decode")(x))


@pytest.fixture(scope="session")
def images():
    return np.random.default_rng(0).random((90, 8, 8, 1), dtype=np.float32)


@pytest.fixture
def attack_here():
    """Start no processes for attacks."""
    from in_process import attacks_in_this_process

    with attacks_in_this_process():
        yield


@pytest.fixture
def run(monkeypatch, capfd):
    """Call the command in this process, which has Keras already."""
    pytest.importorskip("typer")
    from subsetscan.commands.app import main

    def call(*arguments, code=0):
        monkeypatch.setattr(sys, "argv", ["subsetscan", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        output = capfd.readouterr()
        assert (ended.value.code or 0) == code, output.err + output.out
        return output

    return call
