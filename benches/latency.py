"""Time what one input costs beside the forward pass that its network needs, and write docs/latency.md and its numbers.

Each ratio is of medians of calls that take turns in one run. python benches/latency.py
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import jinja2
import keras
from compare import processor
from timing import rounds

from subsetscan import ModelScanner, SubsetScanDetector
from subsetscan._files import atomic_write
from subsetscan.detectors import AutomaticDetector
from subsetscan.lab.datasets import load_sample
from subsetscan.lab.networks import load_pretrained
from subsetscan.lab.preset import recommended
from subsetscan.networks import OnnxNetwork, as_network
from subsetscan.spaces import Layers, Space

HERE = Path(__file__).parent
OUT = HERE.parent / "docs" / "latency"
ROUNDS, MANY = 300, 3000
PRESET, AUTOMATIC = "28 x 28, recommended preset, 2 networks", "28 x 28 classifier, automatic, 6 layers"
MOST_OF_MANY = 1.25  # times the network's own pass
CONV, DENSE, LATE = "conv2d_1", "dense_2", "conv2d_7"  # of the packaged networks

Calls = dict[str, Callable[[], Any]]


def main() -> None:
    warnings.filterwarnings("ignore", category=UserWarning)
    images, _ = load_sample()
    classifier, autoencoder = load_pretrained("classifier"), load_pretrained("autoencoder")
    large = images_of(96, 400)
    with TemporaryDirectory() as folder:
        rows = [
            one_layer("28 x 28 classifier, first convolution", classifier, CONV, images),
            one_layer("28 x 28 classifier, dense layer", classifier, DENSE, images),
            one_layer("96 x 96 network, third convolution", larger(), "conv3", large),
            one_tensor("28 x 28 ONNX network, convolution", Path(folder) / "net.onnx", images),
            preset(autoencoder, classifier, images),
            every_layer(AUTOMATIC, classifier, images),
        ]
        cases = (("28 x 28 classifier", classifier, images), ("96 x 96 network", larger(), large))
        many = [bulk(*case, kind) for case in cases for kind in BULK]
    write(
        {
            "machine": processor(),
            "n_many": MANY,
            "n_rounds": ROUNDS,
            "one": rows,
            "many": many,
            "moves": moves(classifier, images),
        },
        OUT,
    )


def images_of(size: int, n: int) -> np.ndarray:
    return np.random.default_rng(0).random((n, size, size, 3), dtype=np.float32)


def larger() -> keras.Model:
    keras.utils.set_random_seed(0)
    layers, x = keras.layers, keras.Input((96, 96, 3))
    source = x
    for n, channels in enumerate((32, 64, 64), 1):
        x = layers.Conv2D(channels, 3, padding="same", activation="relu", name=f"conv{n}")(x)
        x = layers.MaxPooling2D(2)(x)
    return keras.Model(source, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


def one_layer(name: str, model: keras.Model, layer: str, images: np.ndarray) -> dict[str, Any]:
    """Time one input through one layer, and its p-value, beside Keras' pass to that layer."""
    return beside(name, Layers(model, [layer]), keras_pass(model, [layer]), images)


def one_tensor(name: str, path: Path, images: np.ndarray) -> dict[str, Any]:
    """Time the same of an ONNX network beside onnxruntime."""
    import onnx
    from onnx import helper

    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(16, 1, 3, 3)).astype(np.float32)
    nodes = [helper.make_node("Conv", ["x", "kernel"], ["conv"]), helper.make_node("Relu", ["conv"], ["active"])]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 1, 28, 28])],
        [helper.make_tensor_value_info("active", onnx.TensorProto.FLOAT, ["n", 16, 26, 26])],
        [onnx.numpy_helper.from_array(kernel, "kernel")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    network = OnnxNetwork(path)
    session = network.session(["active"])
    first = np.moveaxis(images, -1, 1)
    return beside(name, Layers(network, ["active"]), lambda x: session.run(["active"], {"x": x}), first)


def beside(name: str, space: Space, network_pass: Callable[[np.ndarray], Any], images: np.ndarray) -> dict[str, Any]:
    scanner = ModelScanner(space, SubsetScanDetector(random_state=0)).fit(images[:300])
    one = images[300:301]
    calls = {
        "network": lambda: network_pass(one),
        "read": lambda: space.transform(one),
        "p_value": lambda: scanner.p_values(one),
    }
    return {"name": name, "n_nodes": sum(int(np.prod(shape)) for shape in space.node_shapes.values())} | in_turns(calls)


def preset(autoencoder: keras.Model, classifier: keras.Model, images: np.ndarray) -> dict[str, Any]:
    """Time the recommended preset beside the passes of its two networks."""
    scanner = recommended(autoencoder, classifier).fit(images[:1000])
    first, second = keras_pass(classifier, [CONV, DENSE]), keras_pass(autoencoder, [LATE])
    one = images[1000:1001]
    calls = {"network": lambda: (first(one), second(one)), "p_value": lambda: scanner.p_values(one)}
    return {"name": PRESET, "n_nodes": n_nodes(scanner)} | in_turns(calls)


def every_layer(name: str, model: keras.Model, images: np.ndarray) -> dict[str, Any]:
    """Time the automatic detector on all layers."""
    scanner = ModelScanner.automatic(model, random_state=0).fit(images[:1000])
    own, one = keras_pass(model, scanner.spaces[0].reads), images[1000:1001]
    calls = {
        "network": lambda: own(one),
        "read": lambda: scanner.spaces[0].transform(one),
        "p_value": lambda: scanner.p_values(one),
    }
    return {"name": name, "n_nodes": n_nodes(scanner)} | in_turns(calls)


def keras_pass(model: keras.Model, layers: Any) -> Callable[[np.ndarray], Any]:
    return keras.Model(model.inputs[0], [model.get_layer(name).output for name in layers]).predict_on_batch


def n_nodes(scanner: ModelScanner) -> int:
    return sum(int(np.prod(shape)) for shape in scanner.node_shapes.values())


def in_turns(calls: Calls) -> dict[str, float]:
    """Time calls in turns, and return the medians, in milliseconds."""
    rounds(calls, 20)  # what is made once is made
    times, _ = rounds(calls, ROUNDS)
    return {name: 1000 * taken["median"] for name, taken in times.items()}


BULK = ("read", "plain scan", "automatic")


def bulk(name: str, model: keras.Model, images: np.ndarray, kind: str) -> dict[str, Any]:
    """Time a fit on 1,500 inputs and p-values of 1,500 others, all layers, beside the network's pass over all."""
    many = np.concatenate([images] * -(-MANY // len(images)))[:MANY]
    many = np.clip(many + np.random.default_rng(1).normal(0, 0.01, many.shape), 0, 1).astype(np.float32)  # no copies
    layers = as_network(model).computing()
    own = keras_pass(model, layers)
    space = Layers(model, layers, pool_above=4096)
    detector = AutomaticDetector(random_state=0) if kind == "automatic" else SubsetScanDetector(random_state=0)
    scanner = ModelScanner(space, detector, combine="fisher+harmonic")

    def network() -> None:
        for start in range(0, MANY, 64):
            own(many[start : start + 64])

    def ours() -> None:
        if kind == "read":
            for start in range(0, MANY, 256):
                space.transform(many[start : start + 256])
        else:
            scanner.fit(many[: MANY // 2]).p_values(many[MANY // 2 :])

    calls: Calls = {"network": network, "ours": ours}
    rounds(calls, 1)  # is not counted
    times, _ = rounds(calls, 1 if kind == "automatic" else 3)
    return {"name": name, "kind": kind} | {which: taken["median"] for which, taken in times.items()}


def moves(model: keras.Model, images: np.ndarray) -> dict[str, float]:
    """Measure how far activations, scores and p-values move where inputs come one by one, and not in batches of 64."""
    scanner = ModelScanner.automatic(model, random_state=0).fit(images[:1000])
    space, new = scanner.spaces[0], images[1000:1256]
    together, alone = space.transform(new), [space.transform(new[n : n + 1]) for n in range(len(new))]
    largest = max(
        float(np.abs(np.concatenate([one[name] for one in alone]) - values).max() / np.abs(values).max())
        for name, values in together.items()
    )
    p = scanner.p_values(new)
    singly = np.concatenate([scanner.p_values(new[n : n + 1]) for n in range(len(new))])
    scores = scanner.anomaly_score(new)
    each = np.concatenate([scanner.anomaly_score(new[n : n + 1]) for n in range(len(new))])
    space.forward_batch = 64
    same = space.transform(new)
    identical = all(
        np.array_equal(space.transform(new[n : n + 1])[name][0], same[name][n]) for n in range(40) for name in same
    )
    return {
        "n": len(new),
        "activation": largest,
        "score": float(np.max(np.abs(scores - each)) / np.std(scores)),
        "p_value": float(np.max(np.abs(p - singly))),
        "p_values_moved": int(np.sum(p != singly)),
        "identical": identical,
    }


def write(results: dict[str, Any], out: Path) -> None:
    """Write results.json into a folder, and the page beside it, named as the folder."""
    out.mkdir(exist_ok=True)
    with atomic_write(out / "results.json") as path:
        path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 (Markdown)
    )  # fmt: skip
    one = results["one"]
    limits = {row["name"]: limit(row["name"], row["network"]) for row in one}
    page = environment.get_template("latency.md.jinja").render(
        results,
        read=spread([row["read"] / row["network"] for row in one if "read" in row]),
        limits=limits,
        adds=spread([row["p_value"] - row["network"] for row in one if row["name"] not in (PRESET, AUTOMATIC)]),
        most_of_many=MOST_OF_MANY,
        p_value=spread([row["p_value"] / row["network"] for row in one]),
    )
    with atomic_write(out.with_name(f"{out.name}.md")) as path:
        path.write_text(page, encoding="utf-8")


def limit(name: str, network: float) -> float | None:
    """Return what a p-value of one input may take at most, in milliseconds; None where no limit was set."""
    if name == AUTOMATIC:
        return None
    return 1.5 * network + 0.5 if name == PRESET else 1.3 * network + 0.2


def spread(ratios: list[float]) -> str:
    return f"{min(ratios):.1f} to {max(ratios):.1f}"


if __name__ == "__main__":
    main()
