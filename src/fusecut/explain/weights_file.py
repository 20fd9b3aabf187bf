"""Trained weights on disk: safetensors with what they are for in the header, read with suspicion."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from fusecut.errors import FusecutError, WeightsError

if TYPE_CHECKING:
    from fusecut.explain.gnn import ValidityModel

LARGEST_WEIGHTS_BYTES: Final = 8 * 2**20

Network = TypeVar("Network")

HEADER: Final = "fusecut"

BUNDLED: Final = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class Weights:
    """Tensors by name, and the header."""

    tensors: Mapping[str, Any]
    header: Mapping[str, Any]

    def value(self, key: str) -> Any:
        """A header value.

        Raises:
            WeightsError: it is missing.
        """
        if key not in self.header:
            raise WeightsError(f"the header of the weights has no {key!r}: train them again")
        return self.header[key]


def require_gnn() -> None:
    """Raise FusecutError where the extra gnn is not installed."""
    try:
        import safetensors.torch  # noqa: F401
        import torch_geometric  # noqa: F401
    except ImportError as error:
        raise FusecutError(f"{error.name} is missing: explainers that learn need pip install 'fusecut[gnn]'") from None


def read_weights(path: str | Path, kind: str, version: int) -> Weights:
    """Weights of one kind ("validity", "pg", "rg") and feature version.

    Raises:
        WeightsError: missing, larger than 8 MiB, damaged, of another kind or version, or with numbers
            that are not finite 32-bit floats.
        FusecutError: the extra gnn is not installed.
    """
    require_gnn()
    import safetensors
    import torch

    try:
        size = Path(path).stat().st_size
        if size > LARGEST_WEIGHTS_BYTES:
            raise WeightsError(f"{path} has {size:,} B: weights have at most {LARGEST_WEIGHTS_BYTES:,} B")
        with safetensors.safe_open(path, framework="pt") as file:
            header = _header(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
    except OSError as error:
        raise WeightsError(f"cannot read weights {path}: {error.strerror or error}") from None
    except (safetensors.SafetensorError, ValueError) as error:
        reason = str(error).splitlines()[0][:200]
        raise WeightsError(f"{path} is damaged or no safetensors file ({reason}): train it again") from None
    if header.get("kind") != kind:
        raise WeightsError(f"{path} holds {header.get('kind', 'other')!r} weights: expected {kind!r}")
    if header.get("version") != version:
        raise WeightsError(
            f"{path} was made for feature version {header.get('version')}, this fusecut has {version}: train it again"
        )
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float32 or not bool(torch.isfinite(tensor).all()):
            raise WeightsError(f"{path}: {name!r} is not all finite 32-bit numbers: train it again")
    return Weights(tensors, header)


def _header(metadata: Mapping[str, str]) -> dict[str, Any]:
    """The header in a file's metadata; empty where there is none of ours."""
    try:
        header = json.loads(metadata.get(HEADER, "{}"))
    except RecursionError:
        return {}
    return header if isinstance(header, dict) else {}


def weights_bytes(tensors: Mapping[str, Any], kind: str, version: int, header: Mapping[str, Any]) -> bytes:
    """The file :func:`read_weights` reads; same weights, same bytes: safetensors does not keep the
    order of its metadata, so the header is one entry, of JSON."""
    from safetensors.torch import save

    text = json.dumps({**header, "kind": kind, "version": version}, sort_keys=True)
    plain = {name: tensor.detach().contiguous().clone() for name, tensor in sorted(tensors.items())}
    content: bytes = save(plain, {HEADER: text})
    return content


def fill(network: Any, weights: Weights, what: str | Path) -> None:
    """Put the tensors into a torch module.

    Raises:
        WeightsError: names or shapes differ from the module's.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.tensors.items()}
    if expected != found:
        odd = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        raise WeightsError(
            f"{what}: {odd[0]!r} has shape {found.get(odd[0])}, expected {expected.get(odd[0])}: train it again"
        )
    network.load_state_dict(dict(weights.tensors))
    network.eval()


def taught(network: Network, kind: str, version: int, model: ValidityModel, path: Path | None) -> Network:
    """The network of an explainer, in place, with what it was taught together with a validity network.

    From the file at ``path``, or the one that comes with fusecut for the scheme.

    Raises:
        WeightsError: see :func:`read_weights` and :func:`fill`, or they were taught with another validity network.
    """
    file = path or BUNDLED / f"{kind}_{model.trained.scheme}.safetensors"
    weights = read_weights(file, kind, version)
    if weights.value("validity_sha256") != model.fingerprint:
        raise WeightsError(f"{file} was taught with another validity network: train it again with this one")
    fill(network, weights, file)
    return network
