# Short names for what the presets of CMakePresets.json do; `make help` lists them.
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
BUILD := build/release

.PHONY: help build test demo bench format clean nightly dependencies
.DEFAULT_GOAL := help

help:
	@echo 'make build    dependencies, then $(BUILD)/mmfuse'
	@echo 'make test     build, then all tests'
	@echo 'make demo     build, then scripts/demo.sh: a first comparison on a small data set'
	@echo 'make bench    build, then bench/run.sh: speed and memory beside PyTorch (installs it below build/)'
	@echo 'make format   clang-format over all C files'
	@echo 'make nightly  the long checks: fuzzing, valgrind, thread sanitizer, coverage'
	@echo 'make clean    removes build/'
	@echo 'JOBS=N limits the compiler to N processes (default $(JOBS)).'

dependencies:
	@scripts/install_dependencies.sh

build: dependencies
	@cmake --preset release $(if $(wildcard $(BUILD)/CMakeCache.txt),> /dev/null)
	@cmake --build --preset release -j $(JOBS)

test: build
	@ctest --preset release -j $(JOBS)

demo: build
	@scripts/demo.sh

bench: build
	@bench/run.sh

format:
	@git ls-files '*.c' '*.h' | xargs clang-format -i

nightly:
	@scripts/nightly.sh

clean:
	@rm -rf build
