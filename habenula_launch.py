"""The command `habenula`: what must be arranged before JAX is imported, then `circuit/study/commands/cli.py`."""

import os


def main() -> None:
    """Run the command line."""
    # XLA names features of the processor that it did not use, as errors, whenever it loads a kept program.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from habenula.circuit.study.cli import main

    main()
