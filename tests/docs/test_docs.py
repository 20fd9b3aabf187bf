"""Documentation that can fail: README output and examples, generated tables, links."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from fusecut.errors import FusecutError
from fusecut.frontend.lower import LOWERING
from fusecut.ops import RULES

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def shown(name: str) -> str:
    match = re.search(rf"<!-- output: {name} -->\n```text\n(.*?)\n```", README, re.S)
    assert match is not None
    return match[1]


def command_before(name: str) -> list[str]:
    block = README[: README.index(f"<!-- output: {name} -->")].rsplit("$ ", 1)[1]
    return shlex.split(block.splitlines()[0])


def test_readme_shows_what_the_commands_print(tmp_path: Path) -> None:
    for name in ("solve", "explain"):
        command = [sys.executable, "-m", *command_before(name)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
        assert done.stdout.rstrip() == shown(name)


def test_readme_python_runs() -> None:
    for code in re.findall(r"```python\n(.*?)```", README, re.S):
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize("name", ["brr", "mixed", "online", "pareto"])
def test_the_examples_of_a_page_run(name: str) -> None:
    text = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    examples = re.findall(r"```python\n(.*?)```", text, re.S)
    assert examples
    for code in examples:
        exec(compile(code, f"docs/{name}.md", "exec"), {})  # noqa: S102 (our own pages)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.name))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_the_operator_page_lists_every_rule_and_operator() -> None:
    text = (ROOT / "docs" / "onnx.md").read_text(encoding="utf-8")
    for kind, rule in RULES.items():
        summary = " ".join((rule.__doc__ or "").split())
        assert f"| `{kind}` | {summary} |" in text
    assert f"{', '.join(sorted(LOWERING))}." in text.replace("\n", " ")


def test_the_exception_tree_in_the_docstring_is_the_real_one() -> None:
    import fusecut.errors

    tree = fusecut.errors.__doc__ or ""
    classes: list[type[FusecutError]] = [FusecutError, *FusecutError.__subclasses__()]
    assert all(cls.__name__ in tree for cls in classes)
