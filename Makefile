# Everything runs on a fresh Debian 12 as root with nothing but Python 3.11; set-up is part of every goal and quick when done.
PYTHON := .venv/bin/python
JOBS ?= 3

.PHONY: mutation reliability fresh-seeds help setup setup-demo lab lab-kernel lint format test demo bench corpus wheel clean

help:           ## what there is
	@sed -n 's/^\([a-z-]*\):[^#]*## /  make \1\t/p' Makefile | expand -t 22

setup:          ## Debian packages, .venv, the three programs in .venv/bin
	@scripts/setup.sh test

setup-demo:     ## only what the demo needs
	@scripts/setup.sh demo

lint: setup     ## ruff and mypy --strict
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy

format: setup   ## let ruff rewrite the sources
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

test: lint      ## lint and every test
	$(PYTHON) scripts/run_tests.py -n $(JOBS) --dist loadgroup

demo: setup-demo ## a pair of nodes in this machine, split in every way and healed (at most ten minutes)
	@.venv/bin/brainctl demo $(ARGS)

bench: setup    ## takeover and detection measured beside keepalived; LVS too, in the lab: make bench ARGS='--only lvs'
	$(PYTHON) -m bench $(ARGS)

mutation: setup ## one small change at a time to what decides: is it noticed? make mutation ARGS='--seed 7 --mutants 40 --budget 1800'
	$(PYTHON) scripts/mutation.py --out docs/reliability/mutation.json $(ARGS)
	$(PYTHON) scripts/reliability.py render

reliability: setup ## fresh seeds and a search, recorded, and docs/RELIABILITY.md: make reliability BUDGET=600
	$(PYTHON) scripts/reliability.py seeds --budget $(or $(BUDGET),600)
	$(PYTHON) scripts/reliability.py search --depth 2 --budget $(or $(BUDGET),600)

fresh-seeds: setup ## a minute of fresh seeds and a minute of search from a rotating start, as CI runs them; both starts are printed
	@set -e; first=$$(( 10000 + $$(date +%s) )); echo "seeds from $$first"; \
	.venv/bin/brainctl simulate --quick --first $$first --seeds 5000 --budget 60; \
	echo "search start $$first"; .venv/bin/brainctl search --depth 2 --budget 60 --start $$first

lab:            ## a guest kernel with IPVS: then `lab/run COMMAND` (lab/README.md)
	@scripts/setup.sh lab
	@lab/run -t 60 modprobe ip_vs
	@echo 'lab: ready; try: lab/run ipvsadm -Ln'

lab-kernel: lab ## optional: build the lab's own kernel, which is faster and has all of nftables (minutes)
	@lab/build-kernel.sh

corpus: setup   ## every file of DIR under keepalived and vrrpd, and what differs: make corpus DIR=/etc/keepalived ARGS='--only check,live'
	$(PYTHON) -m tests.corpus $(DIR) $(ARGS)

wheel: setup    ## dist/*.whl
	$(PYTHON) -m build --wheel --no-isolation

clean:          ## caches and the build
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis dist build
