"""Files that are complete or not there at all."""

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replace_atomically(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its name once the block has ended without an error.

    A reader never sees half a file, and a run that is stopped leaves the old one. Folders are made as needed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text`, in UTF-8, as a whole."""
    with replace_atomically(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: object) -> None:
    """Write `value` as JSON as a whole; numbers that are not finite become null, which JSON has and NaN it has not."""
    write_text(path, json.dumps(_replace_nonfinite(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def _replace_nonfinite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _replace_nonfinite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_replace_nonfinite(each) for each in value]
    if hasattr(value, "item"):  # a number of NumPy or JAX
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
