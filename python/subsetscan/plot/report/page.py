"""The page itself: a template, its content and the libraries that draw it, in one file."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..._extras import import_extra
from ..._files import atomic_write, damage_as_value_error
from .charts import charts
from .content import content_of, rate_of
from .labels import label, with_labels
from .results import Results, read_results

__all__ = ["check_libraries", "write_report"]

_HERE = Path(__file__).parent
_TABLES = {"spaces", "combined", "paper", "baseline", "preset"}  # of a summary, too long for a list


def write_report(found: Path | str | Results, out: Path | str | None = None) -> Path:
    """Write what a scan found as one HTML page, which needs no network and no other file.

    Libraries that draw charts (Vega-Lite) and the table (DataTables) are inlined. Names and texts are escaped.

    Parameters
    ----------
    found : path-like or Results
        A results folder, as `subsetscan scan` writes it; or what `sequence_results` makes of scans within inputs.
    out : path-like, optional
        ``report.html`` in the folder by default.

    Returns
    -------
    Path
        Of the page.

    Raises
    ------
    OSError
        If a file cannot be read or written.
    ValueError
        If a file is not what `subsetscan scan` writes.
    ModuleNotFoundError
        If a library is missing; the message says how to get it.
    """
    jinja2 = import_extra("jinja2", "report")
    libraries = _libraries()
    results = with_labels(found if isinstance(found, Results) else read_results(found))
    path = results.folder / "report.html" if out is None else Path(out)
    gallery = [{"score": None, **one} for one in results.gallery]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE), undefined=jinja2.StrictUndefined, autoescape=True,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["label"] = label
    with damage_as_value_error(results.folder, "does not hold what `subsetscan scan` writes"):
        content = content_of(results)
        mapped = list(dict.fromkeys(row["input"] for row in content["map"]))
        drawn = charts(
            with_band=bool(content["band"]), with_roc=any(content["roc"].values()), spaces=results.spaces, inputs=mapped
        )
        text = environment.get_template("report.html.jinja").render(
            content=content,
            start_rate=rate_of(results),
            charts=drawn,
            about=_about(results),
            gallery=[_with_picture(one, results.folder) for one in gallery],
            with_known=any(known for one in gallery for _, _, known in one["text"] or ()),
            version=version("subsetscan"),
            data=_packed(json.dumps(content, allow_nan=False, separators=(",", ":"))),
            specifications=_packed(json.dumps(drawn)),
            libraries={name: _packed(code) for name, code in libraries.items()},
            style=(_HERE / "report.css").read_text(encoding="utf-8"),
            script=(_HERE / "report.js").read_text(encoding="utf-8"),
        )
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def check_libraries() -> None:
    """Check that a page can be written, before the work whose page it is to be.

    Raises
    ------
    ModuleNotFoundError
        If a library is missing; the message says how to get it.
    """
    for module in ("jinja2", "vl_convert", "itables", "matplotlib"):
        import_extra(module, "report")


def _libraries() -> dict[str, str]:
    """Return the code of the libraries that the page needs."""
    vega = import_extra("vl_convert", "report")
    folder = resources.files(import_extra("itables", "report")) / "html"
    return {
        "vega": vega.javascript_bundle(),
        "table": (folder / "dt_bundle.js").read_text(encoding="utf-8"),
        "table-style": (folder / "dt_bundle.css").read_text(encoding="utf-8"),
    }


def _packed(text: str) -> str:
    """Compress a text, in letters that mean nothing in HTML."""
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()


def _about(results: Results) -> list[tuple[str, str]]:
    """List what was scanned and how, in the order of the summary."""
    return [
        (_words(name), _told(value))
        for name, value in results.summary.items()
        if name not in _TABLES and value is not None
    ]


def _words(name: str) -> str:
    return name.replace("_", " ").removeprefix("n ") + (" (number)" if name.startswith("n_") else "")


def _told(value: Any) -> str:
    if isinstance(value, Mapping):
        parts = {_words(key): f"({_told(one)})" if isinstance(one, Mapping) else _told(one)
                 for key, one in value.items() if one is not None}  # fmt: skip
        return ", ".join(f"{key}: {one}" for key, one in parts.items())
    return ", ".join(map(_told, value)) if isinstance(value, list) else str(value)


def _with_picture(one: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Put the picture of an input in the page."""
    name = one.get("picture")
    picture = None
    if name is not None:
        path = folder / "gallery" / name
        if path.parent != folder / "gallery":
            raise ValueError(f"{folder / 'gallery' / 'gallery.json'}: a picture lies outside the folder: {name!r}")
        picture = base64.b64encode(path.read_bytes()).decode()
    return {**one, "picture": picture}
