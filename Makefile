# On a fresh machine: `make demo` or `make test`. Both make .venv and install what they need into it.

PYTHON ?= python3
RUN = .venv/bin/python
DEMO = runs/demo

.PHONY: demo test lint clean

# the built-in sample: drawn, prepared, trained on and shown, at a size that suits two CPU cores
demo: .venv/installed
	$(RUN) prepare_dataset.py --sample --dest $(DEMO)/dataset
	$(RUN) train_distributed.py --data $(DEMO)/dataset --output $(DEMO) --restart \
		--weights none --augment light --image-size 64 --batch-size 32 --epochs 12 --lr 1e-3
	$(RUN) distributed_inference.py --data $(DEMO)/dataset --output $(DEMO) --count 12 --seed 7
	@echo "[INFO] predictions: $(DEMO)/results.png; the training: $(DEMO)/report.html"

test: .venv/installed-tests
	$(RUN) -m pytest

lint: .venv/installed-tests
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

.venv/installed: requirements.txt
	$(PYTHON) -m venv .venv
	.venv/bin/pip install -q -r requirements.txt
	touch $@

.venv/installed-tests: .venv/installed tests/requirements.txt
	.venv/bin/pip install -q -r tests/requirements.txt
	touch $@

clean:
	rm -rf .venv $(DEMO)
