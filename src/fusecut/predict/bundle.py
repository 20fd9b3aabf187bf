"""The predictors that ship with the package: one file for each space, under 5 MB together.

``fbnet``, ``nasbench201`` and ``ofa_mbv3`` hold the latencies of measured devices on networks of these
spaces, ``onnx`` the same devices for any network (all spaces pooled), and ``families`` what our own
solver finds: DRAM at any buffer, energy and latency of a machine.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

from fusecut.errors import UnknownNameError
from fusecut.predict.model import Model, load

FOLDER: Final = Path(__file__).parent / "data"
SOLVED: Final = "families"
"""The model of labels that our own solver computed; its ``extra`` block is how a network stands to a buffer."""

ANY: Final = "onnx"
"""The model of measured devices for networks of no known space."""


def bundled_names() -> tuple[str, ...]:
    """The spaces with a model, sorted."""
    return tuple(sorted(file.stem for file in FOLDER.glob("*.safetensors")))


@cache
def bundled(name: str) -> Model:
    """The model of that name.

    Raises:
        UnknownNameError: there is none; lists those there are.
    """
    if name not in bundled_names():
        raise UnknownNameError("bundled predictor", name, bundled_names())
    return load(FOLDER / f"{name}.safetensors")
