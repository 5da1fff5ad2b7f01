"""Every Python block of the README and the documentation runs, page by page; every command and module in them exists.

A block that takes long has a comment before it, or its page has one under the title:

    <!-- snippet: slow, REASON -->                      run with -m slow
    <!-- snippet: slow; needs PACKAGE; REASON -->       and only where an extra package is installed
"""

import importlib
import importlib.util
import re
import shlex
from pathlib import Path
from typing import NamedTuple

import jax
import jaxtyping
import pytest
from typer.testing import CliRunner

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [page for page in PAGES if not page.is_relative_to(ROOT / "docs/generated")]
FENCE = re.compile(r"^(?P<mark><!-- snippet: (?P<words>[^>]*) -->\n+)?^```python\n(?P<code>.*?)^```$", re.M | re.S)
PAGE_MARK = re.compile(r"\A# [^\n]*\n\n<!-- snippet: slow, [^>]+ -->\n")
NEEDS = re.compile(r"needs (\w+)")


class Block(NamedTuple):
    """A fenced block of Python: the line where it stands, its code, whether it is slow, and a package it needs."""

    line: int
    code: str
    slow: bool
    needs: str | None


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    whole = PAGE_MARK.search(text) is not None
    found = []
    for match in FENCE.finditer(text):
        words = match["words"] or ""
        needs = NEEDS.search(words)
        line = text.count("\n", 0, match.start("code")) + 1
        found.append(Block(line, match["code"], whole or words.startswith("slow"), needs and needs[1]))
    return found


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


QUICK = [page for page in PAGES if any(not block.slow for block in blocks(page))]
SLOW = [page for page in PAGES if any(block.slow for block in blocks(page))]


def run(page: Path, chosen: list[Block], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run blocks of a page in one namespace, from the root of the checkout, with JAX and types as readers have them."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(
        jaxtyping.config, "jaxtyping_disable", True
    )  # its hook refuses `days=28` where a float is named
    space: dict = {"__name__": "__main__"}
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        for block in chosen:
            if block.needs is None or importlib.util.find_spec(block.needs):
                exec(compile("\n" * (block.line - 1) + block.code, name(page), "exec"), space)


@pytest.mark.parametrize("page", QUICK, ids=name)
def test_snippets_of_a_page_run(page, monkeypatch):
    run(page, [block for block in blocks(page) if not block.slow], monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("page", SLOW, ids=name)
def test_all_snippets_of_a_page_run(page, monkeypatch):
    run(page, blocks(page), monkeypatch)


def test_no_block_of_python_is_missed():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert len(blocks(page)) == len(re.findall(r"^\s*(?:```|~~~)\s*\{?(?:python|py|pycon|code)\b", text, re.M)), (
            page
        )
        assert len(re.findall("^<!-- snippet:", text, re.M)) == len(PAGE_MARK.findall(text)) + text.count(
            " -->\n```python"
        ), page


def commands() -> set[tuple[str, ...]]:
    """Words of every line of code in the pages that calls `habenula` or a module of it."""
    lines = set()
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        code = re.findall(r"^```(?:console|sh)\n(.*?)^```$", text, re.M | re.S)
        code += re.findall(r"`((?:habenula|python -m) [^`]+)`", text)
        code += re.findall(r"^ {4}(\S.*)$", text, re.M)
        for line in "\n".join(code).splitlines():
            if re.match(r"(habenula|python -m habenula)\b", line):
                lines.add(tuple(shlex.split(line, comments=True)))
    return lines


def test_every_command_in_the_pages_exists_with_its_options():
    from habenula.circuit.study.commands.cli import app

    named = {words[1:] for words in commands() if words[0] == "habenula"}
    assert {words[0] for words in named} >= {"trial", "evidence", "moment", "session", "fit", "doctor", "bench"}
    runner = CliRunner(env={"COLUMNS": "200", "TERM": "dumb"})
    for words in named:
        verb = words[:1] if not words[0].startswith("-") else ()
        shown = runner.invoke(app, [*verb, "--help"])
        assert shown.exit_code == 0, words
        for option in words:
            assert not option.startswith("-") or option in shown.output, f"habenula {' '.join(words)}: no {option}"


def test_every_module_that_the_pages_run_exists():
    modules = {words[2] for words in commands() if words[0] == "python"}
    assert len(modules) >= 8
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    assert not missing


def test_every_path_in_the_pages_exists():
    """Paths in backticks from the root, and links from the page."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        paths = re.findall(r"`((?:circuit|kernels|tests|benchmarks|docs|habenula)/[\w./-]*)`", text)
        missing = [path for path in paths if not (ROOT / path).exists() and not path.startswith("docs/generated")]
        links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text)
        for link in links:
            local = (page.parent / link).resolve()
            if not local.exists() and not local.is_relative_to(ROOT / "docs/generated"):
                missing.append(link)
        assert not missing, name(page)


def test_the_reference_has_every_public_name():
    import habenula as hb

    text = "\n".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs/api").glob("*.md"))
    documented = set(re.findall(r"^\.\. auto\w+:: (?:[\w.]+\.)?(\w+)$", text, re.M))
    packages = {"behaviour", "choice_models", "inference", "optimisation", "simulation"}
    assert all(f"## hb.{package}" in text for package in packages)
    assert set(hb.__all__) - packages - {"__version__"} <= documented


def test_the_picture_of_the_architecture_is_that_of_the_layer_test():
    import runpy

    script = runpy.run_path(str(ROOT / "docs/make_architecture.py"))
    assert script["PICTURE"].read_text(encoding="utf-8") == script["draw"](), "run: python docs/make_architecture.py"


def test_the_readme_is_short_and_has_both_commands():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    for extra, command in {"study": "habenula trial", "test": "pytest"}.items():
        assert f'python3 -m venv .venv && .venv/bin/pip install -e ".[{extra}]" && .venv/bin/{command}\n' in text
