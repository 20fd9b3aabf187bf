"""Build hook: with FUSECUT_COMPILE=1 in the environment, the inner loops are compiled to C by mypyc.

The same files are the fallback: without the variable they are installed as they are and run in the interpreter, with
the same results. docs/scale.md says what compiling gains.
"""

import os
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_SWITCH = "FUSECUT_COMPILE"
_MODULES = "src/fusecut/compiled.txt"
_CONFIG = """[mypy]
ignore_missing_imports = True
follow_imports = silent
[mypy-torch.*,torch_geometric.*,safetensors.*,onnx.*,onnxscript.*,onnx_ir.*,scipy.*,sklearn.*,pyarrow.*,pymoo.*]
follow_imports = skip
"""


def wanted() -> bool:
    """Whether the environment asks for compiled loops."""
    return os.environ.get(_SWITCH, "") not in ("", "0")


class CompileHook(BuildHookInterface):  # type: ignore[type-arg]
    """Compiles the modules that ``compiled.txt`` names, and puts them beside the files they were made from."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """What compiling takes beside a C compiler, and nothing where it is not asked for."""
        return ["mypy[mypyc]>=1.13", "setuptools>=70", "numpy>=2.0"] if wanted() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Adds the compiled modules to the wheel; an editable install gets them in ``src``."""
        if not wanted():
            return
        root = Path(self.root)
        target = root / "src" if version == "editable" else Path(tempfile.mkdtemp(prefix="fusecut-compiled-"))
        for made in compile_modules(root, target):
            build_data["force_include"][str(target / made)] = str(made)
        build_data["pure_python"] = False
        build_data["infer_tag"] = True


def compile_modules(root: Path, target: Path) -> list[Path]:
    """Compiles to ``target``; the files made, relative to it. Takes two minutes on a slow machine."""
    from mypyc.build import mypycify
    from setuptools import Distribution

    sources = [str(Path("src", *name.split(".")).with_suffix(".py")) for name in (root / _MODULES).read_text().split()]
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as scratch:
        config = Path(scratch, "mypy.ini")
        config.write_text(_CONFIG)
        os.chdir(root)  # mypyc finds modules by their path from here
        try:
            options = ["--config-file", str(config), "--cache-dir", str(Path(scratch, "cache"))]
            extensions = mypycify(
                [*options, *sources], opt_level="3", debug_level="0", target_dir=scratch, group_name="fusecut"
            )
            build = Distribution({"name": "fusecut", "ext_modules": extensions}).get_command_obj("build_ext")
            build.build_lib, build.build_temp = str(target), scratch
            build.ensure_finalized()
            build.run()
        finally:
            os.chdir(before)
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    return sorted(p.relative_to(target) for p in target.rglob(f"*{suffix}"))
