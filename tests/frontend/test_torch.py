"""PyTorch modules: the graph is that of the ONNX file PyTorch writes, and no weight is copied for it."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import fusecut as fc
from fusecut.errors import FusecutError, ModelError, UnknownNameError
from fusecut.ir import Graph

torch: Any = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

nn: Any = torch.nn
functional: Any = torch.nn.functional
Module: Any = torch.nn.Module
DOCS = Path(__file__).parents[2] / "docs"


def conv_norm(inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1) -> Any:
    """With a batch norm that looks trained, so that no bias is zero."""
    norm = nn.BatchNorm2d(outputs)
    for values in (norm.running_mean, norm.running_var, norm.weight, norm.bias):
        nn.init.uniform_(values, 0.5, 1.5)
    return nn.Sequential(nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False), norm)


class MobileBlock(Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.expand = conv_norm(3, 24, 3, stride=2), conv_norm(24, 96, 1)
        self.depthwise, self.project = conv_norm(96, 96, 3, groups=96), conv_norm(96, 24, 1)

    def forward(self, x: Any) -> Any:
        x = functional.relu6(self.stem(x))
        y = functional.relu6(self.depthwise(functional.relu6(self.expand(x))))
        return x + self.project(y)


class ResNetBlock(Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_norm(3, 32, 7, stride=2), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        self.a = nn.Sequential(conv_norm(32, 32, 3), nn.ReLU(), conv_norm(32, 32, 3))
        self.b = nn.Sequential(conv_norm(32, 64, 3, stride=2), nn.ReLU(), conv_norm(64, 64, 3))
        self.short, self.head = conv_norm(32, 64, 1, stride=2), nn.Linear(64, 100)

    def forward(self, x: Any) -> Any:
        x = self.stem(x)
        x = torch.relu(self.a(x) + x)
        x = torch.relu(self.b(x) + self.short(x))
        return self.head(torch.flatten(functional.adaptive_avg_pool2d(x, 1), 1))


class SqueezeExcite(Module):  # type: ignore[misc]
    """Its batch norm is untrained: the exporter drops the bias of zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 48, 3, padding=1, bias=False), nn.BatchNorm2d(48)
        self.down, self.up = nn.Conv2d(48, 12, 1), nn.Conv2d(12, 48, 1)

    def forward(self, x: Any) -> Any:
        x = functional.silu(self.norm(self.conv(x)))
        gate = torch.relu(self.down(x.mean((2, 3), keepdim=True)))
        return x * torch.sigmoid(self.up(gate))


class Concat(Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(16, 40, 3, padding=1), nn.Conv2d(16, 40, 3, padding=1)

    def forward(self, x: Any, y: Any) -> Any:
        y = functional.interpolate(y, scale_factor=2.0, mode="nearest")
        return torch.cat([self.left(x), self.right(x), y], dim=1)


class Wide(Module):  # type: ignore[misc]
    """38,654,705,664 weights: 144 GiB."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(65536, 65536, 3, padding=1, bias=False), nn.BatchNorm2d(65536)

    def forward(self, x: Any) -> Any:
        return torch.relu(self.norm(self.conv(x)))


class Undecided(Module):  # type: ignore[misc]
    def forward(self, x: Any) -> Any:
        return x if x.sum() > 0 else -x


NETWORKS = [
    (MobileBlock, ((1, 3, 64, 64),)),
    (ResNetBlock, ((2, 3, 64, 64),)),
    (SqueezeExcite, ((1, 3, 32, 32),)),
    (Concat, ((1, 16, 16, 16), (1, 8, 8, 8))),
]


def parts(graph: Graph) -> tuple[object, ...]:
    """All there is to a graph, by value."""
    return graph.name, graph.ops, graph.tensors, graph.inputs, graph.outputs, graph.notes


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("network", "shapes"), NETWORKS, ids=lambda v: getattr(v, "__name__", ""))
def test_the_graph_of_a_module_is_that_of_its_file(network: Any, shapes: Any, tmp_path: Path) -> None:
    module, inputs = network().eval(), tuple(torch.zeros(shape) for shape in shapes)
    file = tmp_path / f"{network.__name__}.onnx"
    torch.onnx.export(module, inputs, file, dynamo=True, verbose=False)
    assert parts(fc.from_torch(module, inputs)) == parts(fc.load(file))
    op = fc.from_torch(module, inputs, granularity="op")
    assert parts(op) == parts(fc.load(file, granularity="op"))
    assert len(op) >= len(fc.load(file))


@pytest.mark.parametrize("network", [MobileBlock, ResNetBlock])
def test_a_module_whose_weights_do_not_exist_has_the_graph_of_a_trained_one(network: Any) -> None:
    x = torch.zeros(1, 3, 64, 64)
    with torch.device("meta"):
        shapes_only = network()
    assert parts(fc.from_torch(shapes_only, x)) == parts(fc.from_torch(network(), x))


def test_no_weight_is_copied() -> None:
    """One float seen as 144 GiB: a copy, or the exporter's folded batch norm, could not be allocated."""
    with torch.device("meta"):
        module = Wide()
    shape = module.conv.weight.shape
    module.conv.weight = nn.Parameter(torch.rand(1).expand(shape))
    module.norm = nn.BatchNorm2d(65536)
    nn.init.uniform_(module.norm.bias)
    graph = fc.from_torch(module, torch.zeros(1, 65536, 4, 4))
    assert [op.weight_elements for op in graph.ops] == [shape.numel()]
    assert [op.bias_elements for op in graph.ops] == [65536]


def test_a_module_is_read_in_evaluation_mode_and_left_as_it_was() -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Dropout(), nn.BatchNorm2d(8))
    module[2].eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    graph = fc.from_torch(module, torch.rand(1, 3, 8, 8))
    assert len(graph) == 1
    assert [part.training for part in module.modules()] == [True, True, True, False]
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


def test_the_same_module_gives_the_same_graph_twice() -> None:
    with torch.device("meta"):
        module = MobileBlock()
    first, second = (fc.from_torch(module, torch.zeros(1, 3, 32, 32)) for _ in range(2))
    assert parts(first) == parts(second)


def test_a_module_that_cannot_be_exported_is_refused_in_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ModelError, match=r"^Undecided: torch cannot export it \(.+\); make torch\.onnx") as raised:
        fc.from_torch(Undecided(), torch.zeros(4))
    assert "\n" not in str(raised.value)
    assert capfd.readouterr() == ("", "")


def test_a_granularity_that_does_not_exist_is_refused_before_the_export() -> None:
    with pytest.raises(UnknownNameError, match="unknown granularity 'ops': did you mean 'op'"):
        fc.from_torch(Undecided(), torch.zeros(4), granularity="ops")  # type: ignore[arg-type]


def test_without_the_exporter_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr("fusecut.frontend.torch.find_spec", lambda name: None if name == "onnxscript" else real(name))
    with pytest.raises(FusecutError, match=r"from_torch needs onnxscript: pip install 'fusecut\[torch\]'"):
        fc.from_torch(Undecided(), torch.zeros(4))


def test_the_examples_of_the_page_run() -> None:
    text = (DOCS / "torch.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, re.S))
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
