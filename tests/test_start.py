"""Ctrl-C before the command has loaded."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fusecut._start import _is_command

PRESS = """
import signal, sys

class CtrlC:
    def find_spec(self, name, path=None, target=None):
        if name == "fusecut.curve":
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, CtrlC())
sys.argv = [{name!r}]
import fusecut
"""


def pressed(name: str) -> subprocess.CompletedProcess[str]:
    """The package loads in a process of this name and is interrupted on the way."""
    return subprocess.run([sys.executable, "-c", PRESS.format(name=name)], capture_output=True, text=True, check=False)


def test_an_interrupt_while_the_command_loads_is_one_line_and_130() -> None:
    run = pressed("/usr/bin/fusecut")
    assert (run.returncode, run.stdout, run.stderr) == (130, "", "fusecut: interrupted\n")


def test_an_interrupt_while_anything_else_loads_the_package_is_its_own_affair() -> None:
    run = pressed("notebook")
    assert run.returncode != 130 and "KeyboardInterrupt" in run.stderr


@pytest.mark.parametrize(
    ("arguments", "original", "is_command"),
    [
        (["C:\\venv\\Scripts\\fusecut.exe"], ["fusecut"], True),
        (["-m"], ["python", "-X", "dev", "-m", "fusecut", "zoo"], True),
        (["-m"], ["python", "-m", "pytest", "fusecut"], False),
        (["/home/fusecut/run.py"], ["python", "run.py"], False),
        ([], [], False),
    ],
)
def test_what_runs_as_the_command(arguments: list[str], original: list[str], is_command: bool) -> None:
    assert _is_command(arguments, original) is is_command
