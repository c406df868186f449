# `make test` and `make run` need Python 3.11 to 3.13 and git, and make .venv by themselves.
# Without make, Windows included:
#   python -m pip install -c constraints.txt -e .[notebooks,test]
#   pytest
#   python -m yolotrt_lab run

PYTHON ?= python3
PY := .venv/bin/python
READY := .venv/ready
RTX_VERSIONS := 1.4.0.76 1.7.1.116
RTX_FOLDERS := $(RTX_VERSIONS:%=build/rtx/%)

# Where `make rtx` has put versions of TensorRT-RTX; the tests of the TensorRT engine run on each of them.
space := $(subst ,, )
export YOLOTRT_LAB_RTX_PATHS ?= $(subst build/,$(CURDIR)/build/,$(subst $(space),:,$(wildcard $(RTX_FOLDERS))))

.PHONY: test run lab figures lint rtx smoke constraints clean

test: $(READY)
	$(PY) -m pytest -n auto $(ARGS)

run: $(READY)
	$(PY) -m yolotrt_lab run $(ARGS)

lab: $(READY)
	$(PY) -m jupyterlab notebooks

figures: $(READY)
	$(PY) scripts/draw_house.py
	$(PY) scripts/make_figures.py

lint: $(READY)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	.venv/bin/lint-imports --no-logo

# The training of the lab's detector in miniature, on the CPU. It needs PyTorch, which nothing else does.
smoke: $(READY)
	$(PY) -m pip install --quiet --disable-pip-version-check -r scripts/train_detector/requirements.txt
	$(PY) -m scripts.train_detector build/detector --smoke

rtx: $(RTX_FOLDERS)

$(RTX_FOLDERS): build/rtx/%: | $(READY)
	rm -rf $@.part
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --target $@.part \
		tensorrt-rtx-cu13==$* tensorrt-rtx-cu13-bindings==$* tensorrt-rtx-cu13-libs==$*
	mv $@.part $@

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { \
		echo "Python 3.11, 3.12 or 3.13 is needed, and $(PYTHON) is: $$($(PYTHON) --version 2>&1)"; \
		echo "Fix: install one of them, and run: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) cannot make virtual environments: its modules venv and ensurepip are missing."; \
		echo "Fix: install them; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[notebooks,test]'
	@touch $@

# The newest versions that suit Python 3.11 to 3.13 on every system, within the bounds of pyproject.toml.
constraints:
	$(PYTHON) -m venv build/uv
	build/uv/bin/pip install --quiet --disable-pip-version-check uv
	{ sed -n '/^#/p' constraints.txt; build/uv/bin/uv pip compile pyproject.toml --extra notebooks --extra test \
		--universal --python-version 3.11 --fork-strategy fewest --no-annotate --no-header --quiet; } > build/constraints.txt
	mv build/constraints.txt constraints.txt

clean:
	rm -rf build .venv
