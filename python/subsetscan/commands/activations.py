"""Files of activations: what a model of any framework computed, without the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .._files import check_expansion, damage_as_value_error
from ..shards import is_extracted, read_extracted
from .arrays import ARRAY_FILES, check_rows, read_arrays

__all__ = ["Activations", "read_activations"]

_NAME = "activations"  # of what has no name in its file
_FILES = (*ARRAY_FILES, ".parquet")


@dataclass(frozen=True, eq=False)
class Activations:
    """What a file of activations holds.

    Attributes
    ----------
    arrays : dict of str to ndarray of shape (N, ...)
        The same number of rows in all of them.
    columns : list of str or None
        The names of the nodes, where the file is a table with a column for each.
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
    """Read arrays of activations, one row for each input.

    Parameters
    ----------
    path : Path
        ``.npy``: one array, named "activations". ``.npz`` and ``.safetensors``: arrays under their own names.
        ``.parquet``: one array, named "activations", whose nodes are the columns; or, where the columns hold lists of
        numbers, as embeddings, an array for each column, under its name. Or what `subsetscan merge` wrote.

    Returns
    -------
    Activations

    Raises
    ------
    OSError
        If there is no such file, or it cannot be read.
    ValueError
        If the file is damaged or of another kind, or an array does not have a row of numbers for each input.
    ModuleNotFoundError
        If pyarrow is needed and not installed.
    """
    if path.is_dir() and is_extracted(path):
        return Activations(read_extracted(path).arrays)
    if path.suffix.lower() not in _FILES:
        raise ValueError(
            f"without --model, activations are read from {', '.join(_FILES)} files, got {path}; "
            "for the inputs of a network, name it with --model"
        )
    if path.suffix.lower() != ".parquet":
        found = Activations(read_arrays(path, _NAME))
    elif path.is_file():
        found = _parquet(path)
    else:
        raise FileNotFoundError(f"no file of activations at {path}")
    check_rows(found.arrays, path, "(n, nodes)", fewest_axes=2)
    return found


def _parquet(path: Path) -> Activations:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{error.name} is not installed, which reads .parquet files: pip install pyarrow", name=error.name
        ) from error
    batches, n_bytes = [], 0
    with damage_as_value_error(path, "is not a complete .parquet file"), pyarrow.parquet.ParquetFile(path) as file:
        # Its metadata may be wrong, and pyarrow ends the process at some that are.
        for batch in file.iter_batches():
            batches.append(batch)
            n_bytes += batch.nbytes
            check_expansion(path, n_bytes)
        table = pyarrow.Table.from_batches(batches, file.schema_arrow)
    about = table.schema.pandas_metadata or {}
    table = table.drop_columns([name for name in about.get("index_columns", []) if isinstance(name, str)])
    kinds = pyarrow.types
    lists = [
        field.name
        for field in table.schema
        if kinds.is_list(field.type) or kinds.is_large_list(field.type) or kinds.is_fixed_size_list(field.type)
    ]
    if lists and (others := [name for name in table.column_names if name not in lists]):
        raise ValueError(
            f"the columns of {path} must hold either one number or a list of numbers in each row, but {lists[0]} has "
            f"lists and {others[0]} has not: leave some out"
        )
    for field in table.schema:
        kind = field.type.value_type if lists else field.type
        if not any(is_kind(kind) for is_kind in (kinds.is_integer, kinds.is_floating, kinds.is_boolean)):
            raise ValueError(
                f"each column of {path} must hold the numbers of one node, or lists of numbers, but {field.name} is "
                f"{field.type}"
            )
    if lists:
        return Activations({name: _rows_of_lists(table.column(name), name, path) for name in lists})
    columns = [column.to_numpy() for column in table.columns]
    values = np.column_stack(columns) if columns else np.empty((len(table), 0))
    return Activations({_NAME: values}, table.column_names)


def _rows_of_lists(column: Any, name: str, path: Path) -> np.ndarray:
    """Lay the lists of a column under each other. Raises ValueError if one is missing, or their lengths differ."""
    import pyarrow.compute

    if column.null_count:
        missing = int(np.argmax(column.is_null().to_numpy()))
        raise ValueError(f"each row of {name} in {path} must have a list of numbers, row {missing} has none")
    lengths = pyarrow.compute.list_value_length(column).to_numpy()
    if (differs := lengths != lengths[:1]).any():
        row = int(differs.argmax())
        raise ValueError(
            f"the lists of {name} in {path} must have one length, but row 0 has {lengths[0]} numbers and row {row} has "
            f"{lengths[row]}"
        )
    values = pyarrow.compute.list_flatten(column).to_numpy()
    return values.reshape(len(column), lengths[0] if len(lengths) else 0)
