"""Read an ONNX file as a graph: shapes only, weights are never touched.

The only way into the frontend. ``onnx`` itself is imported when a file is loaded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from fusecut.errors import GraphError, ModelError, UnknownNameError
from fusecut.ir import Graph

if TYPE_CHECKING:
    from fusecut.frontend.source import Source

Granularity: TypeAlias = Literal["folded", "op"]


def load(
    path: str | Path,
    *,
    batch: int | None = None,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    granularity: Granularity = "folded",
) -> Graph:
    """The network of an ONNX file.

    ``batch`` replaces the first dimension of every input that is not a weight, also in files
    exported for one batch; an open batch is 1 by default. ``input_shapes`` replaces whole shapes
    by input name. ``granularity="op"`` keeps every node that computes as an op of its own;
    ``"folded"`` applies :func:`fusecut.frontend.normalise.fold`.

    External data is never opened, and no weight is read. What could not be understood or streamed
    is in ``Graph.notes``.

    Raises:
        ModelError: the file cannot be read as a network; one line that says why and what to do.
    """
    check_granularity(granularity)
    from fusecut.frontend.source import read

    return graph_of(read(path), batch, input_shapes, granularity)


def check_granularity(name: str) -> None:
    """Refuse a granularity that does not exist before the file is read."""
    if name not in ("folded", "op"):
        raise UnknownNameError("granularity", name, ("folded", "op"))


def graph_of(
    source: Source,
    batch: int | None = None,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    granularity: Granularity = "folded",
) -> Graph:
    """The network of a sorted file; the arguments are those of :func:`load`.

    Raises:
        ModelError: an op that cannot be understood, or ops that are no graph.
    """
    from fusecut.frontend.branches import settled
    from fusecut.frontend.inputs import Asked
    from fusecut.frontend.lower import Lowering
    from fusecut.frontend.normalise import fold

    plain, inputs = settled(source, Asked(batch, dict(input_shapes or {})))
    try:
        graph = Lowering(plain, inputs).graph()
        return fold(graph) if granularity == "folded" else graph
    except GraphError as error:
        raise source.fail(str(error)) from None


def sha256(path: str | Path) -> str:
    """Hash of the file's bytes, as 64 hexadecimal digits: what a plan records about its network.

    Raises:
        ModelError: the file cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError) as error:  # a name that the locale cannot spell is a ValueError
        reason = error.strerror if isinstance(error, OSError) else error
        raise ModelError(f"{path}: cannot be read ({reason}); give the path of an ONNX file") from None
