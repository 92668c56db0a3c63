"""Files of activations: what a model of any framework computed, without the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile, is_zipfile

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from ..lab.array_files import load_array

__all__ = ["Activations", "read_activations"]

_NAME = "activations"  # of what has no name in its file


@dataclass(frozen=True, eq=False)
class Activations:
    """What a file of activations holds.

    Attributes
    ----------
    arrays : dict of str to ndarray of shape (N, ...)
        The same number of rows in all of them.
    columns : list of str or None
        The names of the nodes, where the file is a table and so has one array.
    """

    arrays: dict[str, np.ndarray]
    columns: list[str] | None = None

    def in_order_of(self, columns: Sequence[str] | None, path: Path) -> dict[str, np.ndarray]:
        """Return the arrays, with the columns of a table in the order of those of another.

        Raises
        ------
        ValueError
            If the columns have other names.
        """
        if self.columns is None or columns is None or self.columns == list(columns):
            return self.arrays
        if sorted(self.columns) != sorted(columns):
            others = sorted({*self.columns} ^ {*columns}) or self.columns
            raise ValueError(
                f"the columns of {path} must be those of the background: {len(columns)} are expected and "
                f"{len(self.columns)} given, and they differ in {', '.join(others[:3])}{' ...' * (len(others) > 3)}"
            )
        order = [self.columns.index(name) for name in columns]
        return {name: array[:, order] for name, array in self.arrays.items()}


def read_activations(path: Path) -> Activations:
    """Read arrays of activations, one row for each image.

    Parameters
    ----------
    path : Path
        ``.npy``: one array, named "activations". ``.npz`` and ``.safetensors``: arrays under their own names.
        ``.parquet``: one array, named "activations", whose nodes are the columns.

    Returns
    -------
    Activations

    Raises
    ------
    OSError
        If there is no such file, or it cannot be read.
    ValueError
        If the file is damaged or of another kind, or an array does not have a row of numbers for each image.
    ModuleNotFoundError
        If pyarrow is needed and not installed.
    """
    if (read := _READERS.get(path.suffix.lower())) is None:
        raise ValueError(
            f"without --model, activations are read from {', '.join(_READERS)} files, got {path}; "
            "for images, name the model"
        )
    if not path.is_file():
        raise FileNotFoundError(f"no file of activations at {path}")
    found = read(path)
    arrays = found.arrays
    if not arrays:
        raise ValueError(f"{path} contains no arrays")
    for name, array in arrays.items():
        if array.ndim < 2 or array.dtype.kind not in "biuf":
            raise ValueError(
                f"{name} in {path} must hold numbers of shape (n, nodes), got {array.dtype} of shape {array.shape}"
            )
    counts = {name: len(array) for name, array in arrays.items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise ValueError(f"the arrays of {path} must have one row per image, but their numbers of rows differ: {told}")
    return found


def _npy(path: Path) -> Activations:
    return Activations({_NAME: load_array(path, _NAME)})


def _npz(path: Path) -> Activations:
    if not is_zipfile(path):
        raise ValueError(f"{path} is not a complete .npz file")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return Activations({name: archive[name] for name in archive.files})
    except (ValueError, EOFError, BadZipFile) as error:
        raise ValueError(f"{path} is not a complete .npz file of numbers: {error}") from error


def _safetensors(path: Path) -> Activations:
    try:
        return Activations(dict(sorted(load_file(path).items())))  # the file keeps no order
    except (SafetensorError, KeyError, TypeError) as error:  # numpy lacks some of its types, as bfloat16
        raise ValueError(f"{path} is damaged, or holds numbers that numpy has no type for: {error}") from error


def _parquet(path: Path) -> Activations:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{error.name} is not installed, which reads .parquet files: pip install pyarrow", name=error.name
        ) from error
    try:
        table = pyarrow.parquet.read_table(path)
    except pyarrow.ArrowInvalid as error:
        raise ValueError(f"{path} is not a complete .parquet file: {error}") from error
    about = table.schema.pandas_metadata or {}
    table = table.drop_columns([name for name in about.get("index_columns", []) if isinstance(name, str)])
    kinds = pyarrow.types
    for field in table.schema:
        if not any(is_kind(field.type) for is_kind in (kinds.is_integer, kinds.is_floating, kinds.is_boolean)):
            raise ValueError(
                f"each column of {path} must hold the numbers of one node, but {field.name} is {field.type}"
            )
    columns = [column.to_numpy() for column in table.columns]
    values = np.column_stack(columns) if columns else np.empty((len(table), 0))
    return Activations({_NAME: values}, table.column_names)


_READERS: Mapping[str, Callable[[Path], Activations]] = {
    ".npy": _npy,
    ".npz": _npz,
    ".parquet": _parquet,
    ".safetensors": _safetensors,
}
