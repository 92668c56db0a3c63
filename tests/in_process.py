"""Attacks in the process that asks for them, where starting others is not the point: each imports TensorFlow anew."""

from concurrent.futures import Future
from contextlib import contextmanager

import pytest

from subsetscan.lab import adversaries
from subsetscan.lab.attacks import Attacker
from subsetscan.lab.networks import load_model

__all__ = ["attacks_in_this_process"]


@contextmanager
def attacks_in_this_process():
    """Let `attack_all` do the same work without processes; those are tested in test_kept.py, test_attack_command.py."""

    @contextmanager
    def executor(n_processes, classifier, safe_mode, from_logits):
        if n_processes:
            attacker = Attacker(load_model(classifier, safe_mode), from_logits=from_logits)
            patch.setattr(adversaries, "_attacker", attacker, raising=False)
        yield submit

    def submit(*task):
        done = Future()
        done.set_result(adversaries._work(*task))
        return done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adversaries, "_executor", executor)
        yield
