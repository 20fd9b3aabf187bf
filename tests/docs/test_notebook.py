"""The example notebook shows what its cells compute today."""

from __future__ import annotations

import ast
import contextlib
import io
import json
from pathlib import Path
from typing import Any

NOTEBOOK = Path(__file__).parents[2] / "docs" / "example.ipynb"


def run(source: str, names: dict[str, Any]) -> tuple[str, Any]:
    """What a cell prints, and the value of its last line."""
    body = ast.parse(source).body
    printed, value = io.StringIO(), None
    with contextlib.redirect_stdout(printed):
        last = body.pop() if isinstance(body[-1], ast.Expr) else None
        exec(compile(ast.Module(body, []), "cell", "exec"), names)  # noqa: S102
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)  # noqa: S307
    return printed.getvalue(), value


def test_every_cell_gives_the_output_that_is_shown() -> None:
    names: dict[str, Any] = {}
    cells = [c for c in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "code"]
    for cell in cells:
        printed, value = run("".join(cell["source"]), names)
        for output in cell["outputs"]:
            if output["output_type"] == "stream":
                assert "".join(output["text"]) == printed
            elif "text/html" in output["data"]:
                assert "".join(output["data"]["text/html"]) == value._repr_html_()
            else:
                assert "".join(output["data"]["text/plain"]) == repr(value)
    assert sum(len(cell["outputs"]) for cell in cells) == len(cells)


def test_the_notebook_holds_no_address_and_no_path_of_a_machine() -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert "http" not in text and "/home" not in text and "/tmp" not in text
