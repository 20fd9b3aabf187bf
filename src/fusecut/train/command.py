"""What ``fusecut train`` does, between the parsed arguments and the written file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fusecut.errors import FusecutError, UnknownNameError
from fusecut.explain.trained import bundled
from fusecut.explain.weights_file import require_gnn
from fusecut.train.dataset import Samples, collected, read, scheme_alone, to_npz

if TYPE_CHECKING:
    from fusecut.explain.gnn import ValidityModel

Report = Callable[[str], None]

EXPLAINERS: Final = ("pg", "rg")
"""The explainers that are taught."""


DEFAULT_GROUPS: Final = 900
"""Most groups of each network."""


VALIDITY_HEADINGS: Final = ("trained on", "tried on", "samples", "accuracy", "F1", "calibration error")
EXPLAINER_HEADINGS: Final = ("explainer", "groups", "AUC", "rank correlation", "flat", "seconds")


def dataset(scheme: str, networks: tuple[str, ...], groups: int, seed: int, report: Report | None) -> tuple[bytes, str]:
    """A data set as a file, and a line about it."""
    samples = collected(scheme, networks, groups, seed, report)
    share = samples.infeasible.mean()
    line = f"{len(samples):,} groups, {samples.infeasible.size:,} samples, {share:.1%} infeasible"
    return to_npz(samples), line


def given(path: Path | None, scheme: str, networks: tuple[str, ...], seed: int, report: Report | None) -> Samples:
    """The data set of a file, or a new one; only these networks of it.

    Raises:
        FusecutError: the file is of another scheme, or has none of the networks.
    """
    scheme_alone(scheme)
    if path is None:
        return collected(scheme, networks, DEFAULT_GROUPS, seed, report)
    samples = read(path)
    if samples.scheme != scheme:
        raise FusecutError(f"{path} was labelled under {samples.scheme!r}, not {scheme!r}: make one for this scheme")
    wanted = [name for name in samples.networks if name in networks]
    if not wanted:
        raise FusecutError(f"{path} has groups of {', '.join(samples.networks)} only: none of those asked for")
    return samples.of(wanted)


def validity(samples: Samples, epochs: int, seed: int, report: Report | None) -> tuple[bytes, str]:
    """A trained validity network as a file, and a line about how good it is on groups kept aside."""
    require_gnn()
    from fusecut.train.validity import Settings, Trainer, parts_of, quality

    trainer, settings = Trainer(samples), Settings(epochs=epochs, seed=seed)
    parts = parts_of(len(samples), seed)
    model = trainer.train(parts.train, parts.validate, settings, report)
    columns = trainer.all_columns
    found = quality(trainer.judged(model.network, parts.test, columns, settings))
    line = f"test groups: accuracy {found.accuracy:.2%}, F1 {found.f1:.3f}, calibration error {found.ece:.3f}"
    return model.to_bytes(), line


def explained(scheme: str, path: Path | None) -> ValidityModel:
    """The validity network of a file, or the bundled one.

    Raises:
        WeightsError: no network for this scheme.
    """
    require_gnn()
    from fusecut.explain.gnn import ValidityModel

    return bundled(scheme) if path is None else ValidityModel.load(path, scheme)


def explainer(
    name: str, model: ValidityModel, samples: Samples, groups: int, seed: int, report: Report | None
) -> tuple[bytes, str]:
    """A taught explainer as a file, and a line about it.

    Raises:
        UnknownNameError: no explainer that is taught.
        FusecutError: the data set has no infeasible group of 4 to 40 ops that the network knows.
    """
    if name not in EXPLAINERS:
        raise UnknownNameError("taught explainer", name, EXPLAINERS)
    require_gnn()
    from fusecut.train.explainers import PGSettings, cases, train_pg
    from fusecut.train.rg import RGSettings, train_rg

    taught = cases(model, samples, groups, seed)
    if not taught:
        raise FusecutError("nothing to learn from: the data set has no infeasible groups of 4 to 40 ops")
    if name == "pg":
        content = train_pg(model, taught, PGSettings(seed=seed), report)
    else:
        content = train_rg(model, taught, RGSettings(seed=seed), report)
    return content, f"taught on {len(taught):,} infeasible groups"


def judged_validity(
    samples: Samples, groups: int, epochs: int, seed: int, report: Report | None
) -> Iterator[list[str]]:
    """The table of docs/validity.md, row by row, on at most so many groups of each network."""
    require_gnn()
    from fusecut.train.judge import fewer, validity_rows
    from fusecut.train.validity import Settings

    for row in validity_rows(fewer(samples, groups, seed), Settings(epochs=epochs, seed=seed), report):
        q = row.quality
        yield [row.trained_on, row.tried_on, f"{q.samples:,}", f"{q.accuracy:.2%}", f"{q.f1:.3f}", f"{q.ece:.3f}"]


def judged_explainers(samples: Samples, groups: int, seed: int) -> Iterator[list[str]]:
    """The table of docs/explainers.md, row by row, on so many infeasible groups; bundled weights."""
    require_gnn()
    from fusecut.train.judge import agreements, questions

    for name, found in agreements(questions(samples, groups, seed), seed):
        yield [
            name,
            f"{found.groups}",
            f"{found.auc:.3f}",
            f"{found.rank:.3f}",
            f"{found.flat}",
            f"{found.seconds:.3f}",
        ]
