"""Networks by the name a user types: a path, or ``zoo:NAME``."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Final

from fusecut.errors import ModelError, instead_of
from fusecut.frontend.onnx import Granularity, sha256
from fusecut.frontend.onnx import load as load_file
from fusecut.ir import Graph
from fusecut.zoo import names, path

ZOO_PREFIX: Final = "zoo:"
_BESIDE: Final = 1000
"""So many files of a folder are looked at for a name that was mistyped."""


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
    """The file behind a name.

    Raises:
        ModelError: no such file, and there is one of nearly that name.
        UnknownNameError: no bundled network of that name.
    """
    if not isinstance(source, str | Path):
        raise ModelError(instead_of("a path, or zoo:NAME", source))
    text = str(source)
    if text.startswith(ZOO_PREFIX):
        return path(text.removeprefix(ZOO_PREFIX))
    file = Path(source)
    if not file.exists() and (hint := _meant(file)):
        raise ModelError(f"{file}: no such file; did you mean {hint}?")
    return file


def _meant(missing: Path) -> str:
    """A bundled network (of a bare name), or a file beside the missing one, of nearly that name."""
    if len(missing.parts) == 1 and (close := get_close_matches(missing.stem, names(), n=1)):
        return f"{ZOO_PREFIX}{close[0]}"
    with suppress(OSError):
        beside = sorted(file.name for file in islice(missing.parent.glob("*.onnx"), _BESIDE))
        return next((str(missing.with_name(name)) for name in get_close_matches(missing.name, beside, n=1)), "")
    return ""


def fingerprint(source: str | Path) -> str:
    """SHA-256 of the file behind a name."""
    return sha256(file_of(source))
