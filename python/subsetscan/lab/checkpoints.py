"""Checkpoints of a training: all that the next epoch depends on, kept after each; the last two are there."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .result_cache import ResultCache

if TYPE_CHECKING:
    import keras

__all__ = ["Checkpoints"]

_NAMES = ("0", "1")  # in turn
_LOG = "log"


class Checkpoints:
    """The state of a compiled model after an epoch: its weights, the optimizer, and what dropout draws from.

    Unlike those of ``keras.callbacks.BackupAndRestore`` they appear whole or not at all, hold the state of random
    numbers, and are passed over where they are damaged, or of a training that something else goes into.

    Parameters
    ----------
    folder : path-like
    made_from : mapping
        All that goes into the training.
    """

    def __init__(self, folder: Path | str, made_from: Mapping[str, Any]) -> None:
        self.folder = Path(folder)
        self._cache = ResultCache(folder, "")  # what is made by which code is known to the training
        self._made_from = made_from

    def save(self, model: keras.Model, log: Sequence[Mapping[str, float]]) -> None:
        """Keep the state after as many epochs as the log has entries, in place of the last but one."""
        import keras

        arrays = {str(n): keras.ops.convert_to_numpy(variable) for n, variable in enumerate(_variables(model))}
        arrays[_LOG] = np.frombuffer(json.dumps(log).encode(), np.uint8)
        self._cache.put(_NAMES[len(log) % len(_NAMES)], self._made_from, arrays)

    def restore(self, model: keras.Model) -> list[dict[str, float]]:
        """Bring a model to its last state that can be read, and return the log up to there: empty at the start."""
        found = self._found()
        states = [arrays for arrays in found.values() if arrays is not None]
        if lost := [str(file) for file, arrays in found.items() if arrays is None]:
            warnings.warn(
                f"{' and '.join(lost)} cannot be used: damaged, or from a training with other data or settings; "
                f"training {'continues from the checkpoint before' if states else 'starts again'}",
                stacklevel=3,
            )
        if not states:
            return []
        logs = [json.loads(arrays[_LOG].tobytes()) for arrays in states]
        log, arrays = max(zip(logs, states, strict=True), key=lambda pair: len(pair[0]))
        model.optimizer.build(model.trainable_variables)
        for n, variable in enumerate(_variables(model)):
            variable.assign(arrays[str(n)])
        return log

    def of_this_training(self) -> bool:
        """Tell whether the folder is there, with a checkpoint of this training, or with nothing in it."""
        if not self.folder.is_dir():
            return False
        return not any(self.folder.iterdir()) or any(arrays is not None for arrays in self._found().values())

    def _found(self) -> dict[Path, dict[str, np.ndarray] | None]:
        files = [file for name in _NAMES if (file := self.folder / f"{name}.safetensors").is_file()]
        return {file: self._cache.get(file.stem, self._made_from) for file in files}


def _variables(model: keras.Model) -> list[Any]:
    return [*model.variables, *model.optimizer.variables]
