"""Networks by the name a user types: a path, or ``zoo:NAME``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fusecut.frontend.onnx import Granularity, sha256
from fusecut.frontend.onnx import load as load_file
from fusecut.ir import Graph
from fusecut.zoo import path

ZOO_PREFIX = "zoo:"


def load(
    source: str | Path,
    *,
    batch: int | None = None,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    granularity: Granularity = "folded",
) -> Graph:
    """Read a network from an ONNX file or, as ``zoo:NAME``, from the bundled ones.

    Args:
        batch: images per inference, in place of the file's.
        input_shapes: shapes by input name, for files that leave them open or to change them.
        granularity: ``folded`` merges what runs as one (batch norm, activations), which never
            makes a plan worse; ``op`` keeps every node of the file.

    Raises:
        ModelError: the file cannot be read as a network.
        UnknownNameError: no bundled network of that name.
    """
    return load_file(file_of(source), batch=batch, input_shapes=input_shapes, granularity=granularity)


def file_of(source: str | Path) -> Path:
    """The file behind a name."""
    text = str(source)
    return path(text.removeprefix(ZOO_PREFIX)) if text.startswith(ZOO_PREFIX) else Path(source)


def fingerprint(source: str | Path) -> str:
    """SHA-256 of the file behind a name."""
    return sha256(file_of(source))
