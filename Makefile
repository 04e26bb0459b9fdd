# On a fresh machine: `make demo`, `make check` or `make test`. Each makes .venv and installs what it needs into it.

PYTHON ?= python3
RUN = .venv/bin/python
DEMO = runs/demo
JOBS ?= 2
PYTEST = $(RUN) -m pytest -n $(JOBS) --dist loadfile

.PHONY: demo check test lint clean

# the built-in sample: drawn, prepared, trained on and shown, at a size that suits two CPU cores
demo: .venv/installed
	$(RUN) prepare_dataset.py --sample --dest $(DEMO)/dataset
	$(RUN) train_distributed.py --data $(DEMO)/dataset --output $(DEMO) --restart \
		--weights none --augment light --image-size 64 --batch-size 32 --epochs 12 --lr 1e-3
	$(RUN) distributed_inference.py --data $(DEMO)/dataset --output $(DEMO) --count 12 --seed 7
	@echo "[INFO] predictions: $(DEMO)/results.png; the training: $(DEMO)/report.html"

# before each commit: everything that needs no training
check: lint
	$(PYTEST) -m "not training"

# everything
test: .venv/installed-tests
	$(PYTEST)

lint: .venv/installed-tests
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

.venv/installed: requirements.txt
	$(PYTHON) -m venv .venv
	.venv/bin/pip install -q -r requirements.txt
	touch $@

.venv/installed-tests: .venv/installed tests/requirements.txt
	.venv/bin/pip install -q -r tests/requirements.txt
	touch $@

clean:
	rm -rf .venv $(DEMO)
