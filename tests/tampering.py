"""Files with something else in them: sealed anew, as somebody would who knows the format."""

import json
import struct

from safetensors import safe_open
from safetensors.numpy import save_file

from subsetscan import _sealed
from subsetscan._digest import digest


def opened(path):
    """Return the description and the arrays of a detector's file."""
    with safe_open(path, framework="numpy") as file:
        return json.loads(file.metadata()["description"]), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def reseal(path, change, **metadata):
    """Change a detector's file: `change(description, tensors)` does, or returns the text of another description."""
    description, tensors = opened(path)
    text = change(description, tensors)
    write(path, text if isinstance(text, str) else _sealed.as_text(description), tensors, **metadata)


def write(path, text, tensors, **metadata):
    with safe_open(path, framework="numpy") as file:
        said = file.metadata() | {"description": text} | metadata
    kind, version = said["format"].removeprefix("subsetscan."), said["format_version"]
    tensors = {name: tensor.copy(order="C") for name, tensor in tensors.items()}
    save_file(tensors, path, said | {"digest": _sealed._digest(kind, version, text, tensors)})


def reseal_folder(folder, change):
    """Change ``scanner.json``: `change(content)` does."""
    path = folder / "scanner.json"
    content = json.loads(path.read_text())
    del content["digest"]
    change(content)
    path.write_text(json.dumps(content | {"digest": digest(_sealed.as_text(content))}))


def raw_safetensors(dtype, n_bytes, metadata=()):
    """Return a safetensors file of one array of any type that the format has, "a" of 2 numbers."""
    entry = {"dtype": dtype, "shape": [2], "data_offsets": [0, n_bytes]}
    header = json.dumps({"__metadata__": dict(metadata), "a": entry}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(n_bytes)
