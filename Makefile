# One target for each habit. `make` lists them.
.PHONY: help test test-all nightly lint types docs notebooks benchmark wheel check
help:        ## list the targets
	@grep -E '^[a-z-]+: +##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'
test:        ## quick tests
	pytest
test-all:    ## quick, optimised and slow tests, as the whole check runs them
	pytest && pytest -m "optimised and not slow and not gpu" && pytest -m "slow and not gpu"
nightly:     ## tests of minutes, before a release
	pytest -m nightly
lint:        ## ruff: rules and format
	ruff check . && ruff format --check .
types:       ## pyright, on links that mirror the installed package
	rm -rf build/link && mkdir -p build/link/habenula
	ln -s ../../../habenula/__init__.py ../../../habenula/__main__.py ../../../circuit ../../../kernels build/link/habenula/
	pyright
docs:        ## documentation into build/docs, warnings are errors
	sphinx-build -q -W --keep-going docs build/docs
notebooks:   ## every notebook, short
	pytest -m slow tests/package/test_notebooks.py
benchmark:   ## every case that this machine can run
	python benchmarks/run.py
wheel:       ## a wheel into dist
	python -m build --wheel
check:       ## all of it, from a fresh environment
	.ci/run
