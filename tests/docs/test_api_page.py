"""docs/api.md lists what the modules say of themselves; ``python tests/docs/test_api_page.py`` writes it anew."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "api.md"
MODULES = {
    "fusecut": "import fusecut as fc",
    "fusecut.models": "fc.models",
    "fusecut.search": "fc.search",
    "fusecut.split": "fc.split",
    "fusecut.explain": "",
    "fusecut.machines": "fc.machines",
    "fusecut.simulate": "",
    "fusecut.export": "",
    "fusecut.report.plots": "fc.plot",
    "fusecut.testing": "",
}
HEAD = """# The Python API

What every public name is for, in a line; `help(fc.solve)` has formulas, units, errors, costs. Whatever begins with an
underscore, and modules not listed here, may change without notice. The package is typed (`py.typed`).
"""


def summary(thing: object) -> str:
    """The first sentence of a docstring, as Markdown."""
    paragraph = " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())
    sentence = re.split(r"(?<=\.)\s", paragraph, maxsplit=1)[0].rstrip(".")
    return re.sub(r":\w+:`~?([^`]*)`", r"`\1`", sentence).replace("``", "`").replace("|", "\\|")


def public(module: str) -> list[str]:
    """Names in their order; constants are told of where they are used."""
    found = import_module(module)
    own = [n for n, v in vars(found).items() if not n.startswith("_") and getattr(v, "__module__", "") == module]
    names: list[str] = getattr(found, "__all__", own)
    kinds = (inspect.isclass, inspect.isfunction, inspect.ismodule)
    return [n for n in names if any(is_kind(getattr(found, n)) for is_kind in kinds)]


def page() -> str:
    parts = [HEAD]
    for module, note in MODULES.items():
        found = import_module(module)
        parts.append(f"## {module}\n{summary(found)}{f' (`{note}`)' if note else ''}.\n")
        parts.append("| name | |\n|---|---|")
        parts += [f"| `{name}` | {summary(getattr(found, name))} |" for name in public(module)]
        parts.append("")
    return "\n".join(parts)


def test_the_page_says_what_the_modules_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python tests/docs/test_api_page.py"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
