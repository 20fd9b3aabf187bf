"""Commands that predict: what networks cost, which are best, and the training of predictors."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fusecut.cli import terminal
from fusecut.cli.files import keep_apart
from fusecut.cli.options import Commands, Parser, count, output_options
from fusecut.errors import FusecutError

if TYPE_CHECKING:
    from fusecut.predictions import Prediction

_TASKS = "dram@256KiB, lbdf@256KiB, layerwise@256KiB, energy@MACHINE, a device (eyeriss), or a task of --model"


def predict_command(commands: Commands[Parser]) -> None:
    """``fusecut predict``."""
    p = commands.add_parser(
        "predict",
        help="what networks will cost, without searching",
        description="Predicts what networks cost, with an interval that holds the truth in nine cases of ten.",
        epilog="Example: fusecut predict zoo:mobilenet_v2 --task dram@256KiB. See docs/predict.md.",
    )
    p.add_argument("networks", nargs="*", metavar="NET", help="ONNX files, zoo:NAME, or SPACE:ARCH of a search space")
    p.add_argument("--archs", type=Path, metavar="FILE", help="architectures to predict: .txt, .csv, .npz or .parquet")
    _options(p)
    p.set_defaults(run=run_predict)


def rank_command(commands: Commands[Parser]) -> None:
    """``fusecut rank``."""
    p = commands.add_parser(
        "rank",
        help="networks from the cheapest to the dearest, predicted",
        description="Ranks the networks of a folder, or of a file of architectures, by what they will cost.",
        epilog="Example: fusecut rank candidates/ --task dram@256KiB --top 10",
    )
    p.add_argument("target", type=Path, metavar="DIR", help="a folder of .onnx files, or a file of architectures")
    p.add_argument("--top", type=count, metavar="N", help="show the first N only")
    _options(p)
    p.set_defaults(run=run_rank)


def _options(p: argparse.ArgumentParser) -> None:
    p.add_argument("--task", required=True, metavar="NAME", help=_TASKS)
    p.add_argument("--space", default="", metavar="NAME", help="search space of the architectures of a file")
    p.add_argument("--model", type=Path, metavar="FILE", help="a predictor made by fusecut train predictor")
    p.add_argument("-o", "--output", type=Path, metavar="FILE.csv", help="write network,value,low,high here")
    output_options(p)


def run_predict(args: argparse.Namespace) -> int:
    """Predict; where a file has values, too, say how good the predictions are."""
    import numpy as np

    from fusecut.predict.metrics import metrics
    from fusecut.report import predicted

    networks, truth = list(args.networks), None
    if args.archs is not None:
        from fusecut.train.labels import read_columns

        archs, truth = read_columns(args.archs)
        networks += _named(archs, _space(args))
    if not networks:
        raise FusecutError("nothing to predict: give networks, or --archs FILE")
    rows = _predictions(args, networks)
    _emit(args, rows)
    if truth is not None and not args.networks and (good := np.isfinite(truth)).any():
        values = np.array([r.value for r in rows])
        print(predicted.scores(metrics(truth[good], values[good])), file=sys.stderr)
    return terminal.OK


def run_rank(args: argparse.Namespace) -> int:
    """Predict all, the cheapest first."""
    rows = sorted(_predictions(args, _targets(args)), key=lambda r: (r.value, r.network))
    _emit(args, rows[: args.top] if args.top else rows)
    return terminal.OK


def _targets(args: argparse.Namespace) -> list[str]:
    from fusecut.train.labels import read_columns

    if not args.target.is_dir():
        return _named(read_columns(args.target)[0], _space(args))
    found = sorted(str(file) for file in args.target.glob("*.onnx"))
    if not found:
        raise FusecutError(f"{args.target} has no .onnx file: give a folder of networks, or a file of architectures")
    return found


def _named(archs: list[str], space: str) -> list[str]:
    from fusecut.predict.spaces import SPACES

    return [f"{space}:{arch}" if space in SPACES else arch for arch in archs]


def _space(args: argparse.Namespace) -> str:
    """The space asked for, or the model's."""
    from fusecut.predict.model import load

    return args.space or (load(args.model).basis.space if args.model is not None else "")


def _predictions(args: argparse.Namespace, networks: list[str]) -> list[Prediction]:
    from fusecut.commands import check_writable

    check_writable(args.output)
    keep_apart([args.output] if args.output is not None else [], networks)
    from fusecut.predict.model import load
    from fusecut.predictions import predict

    return predict(networks, args.task, load(args.model) if args.model is not None else None)


def _emit(args: argparse.Namespace, rows: list[Prediction]) -> None:
    import csv
    from dataclasses import asdict
    from io import StringIO

    from fusecut.plan_file import write_text
    from fusecut.report.predicted import table

    if args.output is not None:
        text = StringIO()
        lines = csv.writer(text, lineterminator="\n")
        lines.writerows([("network", "value", "low", "high"), *((r.network, r.value, r.low, r.high) for r in rows)])
        write_text(args.output, text.getvalue())
    terminal.emit_as(
        args.format,
        json=lambda: json.dumps([asdict(row) for row in rows], indent=2),
        text=lambda width, colour: table(rows, width, colour),
    )


def train_predictor_command(commands: Commands[Parser]) -> None:
    """``fusecut train predictor``."""
    from fusecut.predict.bundle import ANY
    from fusecut.predict.spaces import SPACES

    p = commands.add_parser(
        "predictor",
        help="a predictor of a new task from few labels",
        description="Learns a new task, such as a new device, from labels of some networks of a space; 50 do well.",
        epilog="Example: fusecut train predictor --space fbnet --labels mine.csv --task phone -o phone.safetensors",
    )
    known = ", ".join([*SPACES, ANY])
    p.add_argument("--space", required=True, metavar="NAME", help=f"one of: {known} (any network, by file or zoo:NAME)")
    p.add_argument(
        "--labels", required=True, type=Path, metavar="FILE", help="columns arch and value: .npz, .csv or .parquet"
    )
    p.add_argument("--task", required=True, metavar="NAME", help="what to call it")
    p.add_argument("--unit", default="", metavar="NAME", help="unit of the values, to be printed")
    p.add_argument("--seed", type=count, default=0, metavar="N", help="of the held-out fifths (default: 0)")
    p.add_argument("-o", "--output", required=True, type=Path, metavar="FILE.safetensors", help="the predictor")
    p.set_defaults(run=run_train_predictor)


def run_train_predictor(args: argparse.Namespace) -> int:
    """Train, write, and say how good the predictor is on labels it did not see."""
    from fusecut.commands import check_writable
    from fusecut.plan_file import write_bytes
    from fusecut.report.predicted import scores
    from fusecut.train.predictor import train

    check_writable(args.output)
    trained = train(args.space, args.labels, args.task, args.unit, args.seed)
    write_bytes(args.output, trained.model.save())
    for note in trained.notes:
        print(f"note: {note}", file=sys.stderr)
    lines = [f"{args.task}: learnt from {trained.samples:,} networks of {args.space}, written to {args.output}"]
    if trained.held_out is not None:
        lines.append(f"on held-out fifths of them: {scores(trained.held_out)}")
    terminal.emit("\n".join(lines))
    return terminal.OK


def train_devices_command(commands: Commands[Parser]) -> None:
    """``fusecut train devices``."""
    p = commands.add_parser(
        "devices",
        help="the bundled predictors of measured devices",
        description="Trains what ships with the package on a file of measured latencies (docs/predict.md).",
    )
    p.add_argument("--latencies", required=True, type=Path, metavar="FILE.npz", help="<space>_arch, _device, _latency")
    p.add_argument("-o", "--output", required=True, type=Path, metavar="DIR", help="a folder for the models")
    p.set_defaults(run=run_train_devices)


def run_train_devices(args: argparse.Namespace) -> int:
    """Train the predictors of all devices of all spaces."""
    from fusecut.train.predictor import train_devices

    _check_folder(args.output)
    models = train_devices(args.latencies, lambda step: print(step, file=sys.stderr))
    return _write_models(args.output, {name: model.save() for name, model in models.items()})


def train_families_command(commands: Commands[Parser]) -> None:
    """``fusecut train families``."""
    p = commands.add_parser(
        "families",
        help="the bundled predictor of our own solver's answers",
        description="Solves random networks of families, keeps the labels in a file, and trains on them.",
    )
    p.add_argument("--labels", required=True, type=Path, metavar="FILE.csv", help="labels; what lacks is computed")
    p.add_argument(
        "--members", type=count, default=0, metavar="N", help="networks of each family (default: 0, as in the file)"
    )
    p.add_argument("-o", "--output", required=True, type=Path, metavar="DIR", help="a folder for the model")
    p.set_defaults(run=run_train_families)


def run_train_families(args: argparse.Namespace) -> int:
    """Solve what is missing, train the predictor of DRAM, energy and latency."""
    from fusecut.commands import check_writable
    from fusecut.predict.bundle import SOLVED
    from fusecut.train.predictor import train_families
    from fusecut.train.solved import read_labels, write_labels

    check_writable(args.labels)
    _check_folder(args.output)
    if args.members:
        write_labels(args.labels, range(args.members), lambda row: print(*row, file=sys.stderr))
    rows = read_labels(args.labels) if args.labels.exists() else []
    if not rows:
        raise FusecutError(f"{args.labels} has no labels: name another file, or solve some with --members N")
    return _write_models(args.output, {SOLVED: train_families(rows).save()})


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise FusecutError(f"{folder} is no folder: make it first")


def _write_models(folder: Path, models: dict[str, bytes]) -> int:
    from fusecut.plan_file import write_bytes

    for name, content in models.items():
        write_bytes(folder / f"{name}.safetensors", content)
    terminal.emit("\n".join(f"{folder / name}.safetensors: {len(content):,} B" for name, content in models.items()))
    return terminal.OK
