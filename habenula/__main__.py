"""The command `habenula`, also `python -m habenula`: what must be set before JAX is imported, then the command line."""

import os


def main() -> None:
    """Run the command line."""
    # XLA reports features of the processor that it did not use, as errors, whenever it loads a cached program.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from .circuit.study.commands.cli import main

    main()


if __name__ == "__main__":
    main()
