"""Every notebook runs from top to bottom, short; its figures say what they show; what is kept of its outputs is light."""

import json
from pathlib import Path

import jax
import matplotlib
import matplotlib.pyplot as plt
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
LARGEST = 400_000  # bytes of a notebook with its outputs

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path):
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def test_there_are_notebooks():
    assert [path.stem[0] for path in NOTEBOOKS] == ["1", "2", "3", "4", "5"]


@every_notebook
def test_kept_outputs_are_light_and_whole(path):
    assert path.stat().st_size < LARGEST
    code = [cell for cell in cells(path) if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert any("image/png" in output.get("data", ()) for output in outputs)


@pytest.mark.slow
@every_notebook
def test_a_notebook_runs(path, monkeypatch):
    monkeypatch.setenv("HABENULA_NOTEBOOK_SUBJECTS", "4")
    matplotlib.use("agg")
    space: dict = {}
    with matplotlib.rc_context(), jax.numpy_rank_promotion("allow"):  # JAX as readers have it
        plt.close("all")
        for cell in cells(path):
            if cell["cell_type"] == "code":
                exec(compile("".join(cell["source"]), f"{path.name}, {cell['id']}", "exec"), space)
        figures = [plt.figure(number) for number in plt.get_fignums()]
        plt.close("all")
    assert figures
    for figure in figures:
        titles = [axes.get_title(loc="left") for axes in figure.axes]
        assert figure.get_suptitle() or all(titles[:1])
        assert any(axes.get_xlabel() for axes in figure.axes)
