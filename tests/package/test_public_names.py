"""The names at `import habenula as hb`: type checkers and the lazy loader know the same ones, and each exists."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import habenula as hb

INIT = Path(__file__).resolve().parents[2] / "habenula" / "__init__.py"


def names_for_type_checkers():
    """Public name and home of each import under TYPE_CHECKING."""
    (block,) = (node for node in ast.parse(INIT.read_text()).body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.asname: node.module for node in imports for alias in node.names}


def test_type_checkers_see_what_is_loaded():
    assert names_for_type_checkers() == hb._MODULES


def test_every_name_is_there():
    assert not [name for name in hb.__all__ if getattr(hb, name, None) is None]
    assert set(dir(hb)) == set(hb.__all__)


def test_a_wrong_name_is_answered_with_the_nearest():
    with pytest.raises(AttributeError, match=r"no attribute 'corse'; did you mean course\?"):
        _ = hb.corse


def test_an_import_loads_neither_jax_nor_numpy():
    script = "import sys, habenula; sys.exit(bool({'jax', 'numpy'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", script], check=True)
