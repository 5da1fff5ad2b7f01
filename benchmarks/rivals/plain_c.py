"""In C as one writes it at first (lhb_plain.c), built as `handwritten_c` is."""

from pathlib import Path

from workload import Workload

from . import handwritten_c
from .handwritten_c import available as available

SOURCE = Path(__file__).with_name("lhb_plain.c")


def prepare(workload: Workload, cores: int = 1):
    """OpenMP shares tiles of 64 subjects out over `cores` threads."""
    return handwritten_c.prepare(workload, cores, SOURCE)
