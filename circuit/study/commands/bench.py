"""The benchmark, which stands beside the package in a checkout, as a program of its own."""

import subprocess
import sys
from pathlib import Path

BENCHMARK_SCRIPT = Path(__file__).resolve().parents[3] / "benchmarks" / "run.py"
BENCHMARK_CASES = (
    "lhb",
    "slow",
    "fast",
    "subjects",
    "million",
    "steps",
    "neurons",
    "devices",
    "personal",
    "ablation",
    "plan",
    "gpu",
    "resources",
)


def run_benchmark(words: list[str]) -> int:
    """Run it with these arguments, in a fresh interpreter, as it sets up JAX itself. Returns its exit code.

    Raises:
        ValueError: there is no such folder, as in an installed wheel.
    """
    if not BENCHMARK_SCRIPT.is_file():
        raise ValueError(
            f"the benchmark is not installed with the package: there is no {BENCHMARK_SCRIPT}. In a checkout, "
            "pip install -e '.[bench]', then habenula bench or python benchmarks/run.py."
        )
    return subprocess.run([sys.executable, str(BENCHMARK_SCRIPT), *words]).returncode
