"""Random backgrounds and images for property tests: full of ties, zeros of both signs, infinities."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from subsetscan.scanning import SCOPES, STATISTICS, TAILS, TIES

__all__ = ["DTYPES", "SCOPES", "STATISTICS", "TAILS", "TIES", "cases", "layouts", "node_values", "scan_options"]
DTYPES = (np.float16, np.float32, np.float64)

scan_options = st.fixed_dictionaries(
    {
        "statistic": st.sampled_from(STATISTICS),
        "tail": st.sampled_from(TAILS),
        # grid points of small backgrounds, 1, nearly 0, and anything between
        "alpha_max": st.one_of(
            st.tuples(st.integers(1, 9), st.integers(2, 10)).map(lambda ab: min(ab) / max(ab)),
            st.sampled_from([1.0, 0.5, 1e-9]),
            st.floats(0.01, 1.0),
        ),
        "scope": st.sampled_from(SCOPES),
    }
)


def node_values(dtype):
    """Values as activations have them: mostly zeros and few distinct numbers, at times anything but NaN."""
    width = 8 * np.dtype(dtype).itemsize
    return st.one_of(
        st.sampled_from([0.0, 0.0, 0.0, -0.0, 1.0, -1.0, 2.0, 0.5, np.inf, -np.inf]),
        st.floats(width=width, allow_nan=False),
    )


@st.composite
def cases(draw, max_samples=9, max_nodes=8, max_images=4, dtypes=DTYPES):
    """Draw a background (M, J) and images (N, J) of one type, with constant nodes at times."""
    m, j = draw(st.integers(1, max_samples)), draw(st.integers(1, max_nodes))
    n = draw(st.integers(0, max_images))
    dtype = draw(st.sampled_from(dtypes))
    tables = [draw(arrays(dtype, (rows, j), elements=node_values(dtype))) for rows in (m, n)]
    if draw(st.booleans()):
        tables[0][:, draw(st.integers(0, j - 1))] = tables[0][0, 0]
    return tables[0], tables[1]


@st.composite
def layouts(draw, array):
    """Draw a copy of an array with the same values in another memory layout."""
    kind = draw(st.sampled_from(["C", "F", "reversed", "strided", "read-only", "big-endian", "unaligned"]))
    if kind in ("C", "F"):
        return np.array(array, order=kind)
    if kind == "reversed":
        return np.array(array[::-1, ::-1])[::-1, ::-1]
    if kind == "strided":
        wide = np.zeros((2 * array.shape[0], 3 * array.shape[1]), array.dtype)
        wide[::2, 1::3] = array
        return wide[::2, 1::3]
    if kind == "read-only":
        copy = array.copy()
        copy.flags.writeable = False
        return copy
    if kind == "big-endian":
        return array.astype(array.dtype.newbyteorder(">"))
    raw = np.zeros(array.nbytes + 1, np.uint8)
    shifted = raw[1:].view(array.dtype).reshape(array.shape)
    shifted[...] = array
    return shifted
