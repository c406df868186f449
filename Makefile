# `make run` and `make test` need Python 3.11 to 3.13 and git, and make .venv by themselves; each installs what it needs.
# Without make, Windows included:
#   python -m pip install -c constraints.txt -e .[notebooks]
#   python -m yolotrt_lab run

PYTHON ?= python3
PY := .venv/bin/python
PIP := $(PY) -m pip install --disable-pip-version-check
RTX_VERSIONS := 1.4.0.76 1.7.1.116
RTX_FOLDERS := $(RTX_VERSIONS:%=build/rtx/%)

# Where `make rtx` has put versions of TensorRT-RTX; the tests of the TensorRT engine run on each of them.
space := $(subst ,, )
export YOLOTRT_LAB_RTX_PATHS ?= $(subst build/,$(CURDIR)/build/,$(subst $(space),:,$(wildcard $(RTX_FOLDERS))))

.DEFAULT_GOAL := help
.PHONY: help test test-all run lab figures lint rtx smoke constraints clean

help:  ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

run: .venv/for-run  ## run every notebook: build/report.html, all figures in one file
	@echo "3 of 3: run the notebooks, a minute or two; with a number, one: make run ARGS=01"
	@$(PY) -m yolotrt_lab run $(ARGS)

test: .venv/for-test  ## run the tests
	@echo "3 of 3: run the tests, one to two minutes on two cores; some of them: make test ARGS='tests/test_frame_loop.py'"
	@$(PY) -m pytest -n auto --dist worksteal $(ARGS)

test-all: .venv/for-test  ## run the exhaustive tests too, with many of Hypothesis's examples: some minutes
	@YOLOTRT_LAB_EXAMPLES=$${YOLOTRT_LAB_EXAMPLES:-200} $(PY) -m pytest -n auto --dist worksteal -m "" $(ARGS)

lab: .venv/for-lab  ## open the notebooks in JupyterLab
	$(PY) -m jupyterlab notebooks $(if $(filter 0,$(shell id -u)),--allow-root)

lint: .venv/for-lint  ## style, types, and which module may import which
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	.venv/bin/lint-imports --no-logo

figures: .venv/for-run  ## draw the pictures of README and the results on top of the report anew
	$(PY) scripts/draw_house.py
	$(PY) scripts/make_figures.py

smoke: .venv/for-test  ## train the detector in miniature, on the CPU; it needs PyTorch, which nothing else does
	$(PIP) --quiet -r scripts/train_detector/requirements.txt
	$(PY) -m scripts.train_detector build/detector --smoke

rtx: $(RTX_FOLDERS)  ## fetch two versions of TensorRT-RTX for the tests; they build engines without a GPU

$(RTX_FOLDERS): build/rtx/%: | .venv/for-run
	@echo "TensorRT-RTX $*, about 220 MB on the disk"
	@rm -rf $@.part
	@$(PIP) --quiet --no-deps --target $@.part \
		tensorrt-rtx-cu13==$* tensorrt-rtx-cu13-bindings==$* tensorrt-rtx-cu13-libs==$*
	@mv $@.part $@

SAYS_run := about 700 MB
SAYS_test := about 1.2 GB
SAYS_lint := about 1.3 GB
SAYS_lab := about 800 MB
EXTRAS_run := notebooks
EXTRAS_test := notebooks,test
EXTRAS_lint := notebooks,test,lint
EXTRAS_lab := notebooks,lab

# pip's lines, counted: what it fetches, with sizes, and how many packages it then unpacks.
define COUNTED
{ count=0; while read -r line; do case "$$line" in \
	*.metadata*) ;; \
	Downloading*.whl* | "Using cached"*.whl* | Processing*.whl*) \
		count=$$((count + 1)); name=$${line##*/}; name=$${name##* cached }; name=$${name##Downloading }; \
		size=$${name##*.whl}; name=$${name%%.whl*}; echo "  $$count  $${name%-*-*-*}$${size%%(from*}" ;; \
	"Installing collected"*) IFS=,; set -- $$line; unset IFS; echo "  unpack $$# packages: the longest step" ;; \
	ERROR*) echo "$$line" ;; \
	esac; done; }
endef

.venv/for-%: pyproject.toml constraints.txt
	@$(PY) -m pip --version >/dev/null 2>&1 || { \
		$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { \
			echo "Python 3.11, 3.12 or 3.13 is needed, and $(PYTHON) is: $$($(PYTHON) --version 2>&1)"; \
			echo "Fix: install one of them, and run: make PYTHON=python3.12"; exit 1; }; \
		$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
			echo "$(PYTHON) cannot make virtual environments: its modules venv and ensurepip are missing."; \
			echo "Fix: install them; on Debian and Ubuntu: apt install python3-venv"; exit 1; }; \
		echo "1 of 3: create .venv with $$($(PYTHON) --version)"; $(PYTHON) -m venv --clear .venv; }
	@echo "2 of 3: install what 'make $*' needs into .venv, $(SAYS_$*) on the disk in all"
	@{ $(PIP) --progress-bar off --no-compile -c constraints.txt -e '.[$(EXTRAS_$*)]'; echo $$? > .venv/status; } \
		| $(COUNTED); exit $$(cat .venv/status)
	@touch $@

# The newest versions that suit Python 3.11 to 3.13 on every system, within the bounds of pyproject.toml.
constraints:  ## pin the newest versions within the bounds
	$(PYTHON) -m venv build/uv
	build/uv/bin/pip install --quiet --disable-pip-version-check uv
	{ sed -n '/^#/p' constraints.txt; build/uv/bin/uv pip compile pyproject.toml --extra notebooks --extra lab \
		--extra test --extra lint --universal --python-version 3.11 --fork-strategy fewest --no-annotate --no-header \
		--quiet; } > build/constraints.txt
	mv build/constraints.txt constraints.txt

clean:  ## delete .venv and build
	rm -rf build .venv
