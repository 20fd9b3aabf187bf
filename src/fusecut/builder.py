"""Networks written by hand: a builder whose methods add ops and return tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fusecut.ir import AttrValue, Graph, Op, Tensor


class Net:
    """A network written by hand: every method adds an op and returns the tensor it makes.

    >>> net = Net()
    >>> x = net.input(16, 32, 32)
    >>> y = net.add(net.conv(net.conv(x, 16), 16), x)
    >>> len(net.graph())
    3
    """

    def __init__(self, name: str = "net", batch: int = 1) -> None:
        self.name, self.batch = name, batch
        self.tensors: list[Tensor] = []
        self.ops: list[Op] = []
        self.inputs: list[int] = []

    def input(self, channels: int, rows: int, cols: int) -> int:
        """A network input."""
        self.inputs.append(self._tensor(channels, rows, cols))
        return self.inputs[-1]

    def _tensor(self, channels: int, rows: int, cols: int) -> int:
        self.tensors.append(Tensor(f"t{len(self.tensors)}", (self.batch, channels, rows, cols)))
        return len(self.tensors) - 1

    def op(
        self,
        kind: str,
        inputs: Sequence[int],
        shape: tuple[int, int, int],
        *,
        weights: int = 0,
        biases: int = 0,
        macs: int = 0,
        name: str = "",
        **attrs: AttrValue,
    ) -> int:
        """Any op, its output shape given as (channels, rows, cols)."""
        made = self._tensor(*shape)
        label = name or f"{kind}{len(self.ops)}"
        self.ops.append(
            Op(label, kind, tuple(inputs), (made,), attrs, weight_elements=weights, bias_elements=biases, macs=macs)
        )
        return made

    def conv(
        self,
        x: int,
        channels: int,
        kernel: int = 3,
        stride: int = 1,
        pad: int | None = None,
        dilation: int = 1,
        groups: int = 1,
        biases: bool = False,
        name: str = "",
    ) -> int:
        """A square convolution; ``pad=None`` keeps the size at stride 1."""
        source = self.tensors[x]
        reach = dilation * (kernel - 1)
        pad = reach // 2 if pad is None else pad
        rows, cols = ((size + 2 * pad - reach - 1) // stride + 1 for size in (source.rows, source.cols))
        weights = channels * source.channels // groups * kernel * kernel
        return self.op(
            "conv",
            [x],
            (channels, rows, cols),
            weights=weights,
            biases=channels if biases else 0,
            macs=weights * rows * cols * self.batch,
            name=name,
            kernel=(kernel, kernel),
            strides=(stride, stride),
            dilations=(dilation, dilation),
            pads=(pad, pad, pad, pad),
            groups=groups,
        )

    def depthwise(self, x: int, kernel: int = 3, stride: int = 1, name: str = "") -> int:
        """A depthwise convolution."""
        channels = self.tensors[x].channels
        return self.conv(x, channels, kernel, stride, groups=channels, name=name)

    def pool(self, x: int, kernel: int = 2, stride: int = 2, pad: int = 0, name: str = "") -> int:
        """A max pool."""
        source = self.tensors[x]
        rows, cols = ((size + 2 * pad - kernel) // stride + 1 for size in (source.rows, source.cols))
        return self.op(
            "pool",
            [x],
            (source.channels, rows, cols),
            name=name,
            mode="max",
            kernel=(kernel, kernel),
            strides=(stride, stride),
            pads=(pad, pad, pad, pad),
        )

    def add(self, *parts: int, name: str = "") -> int:
        """An elementwise sum; a one-row part is broadcast."""
        widest = self.tensors[max(parts, key=lambda t: self.tensors[t].elements)]
        return self.op("elementwise", parts, widest.shape[1:], name=name, function="Add")

    def concat(self, *parts: int, name: str = "") -> int:
        """A concatenation over channels."""
        first = self.tensors[parts[0]]
        channels = sum(self.tensors[t].channels for t in parts)
        return self.op("concat", parts, (channels, first.rows, first.cols), name=name, axis=-1)

    def split(self, x: int, *channels: int) -> tuple[int, ...]:
        """Parts of the channels, so many in each, all made by one op."""
        source = self.tensors[x]
        first, *others = channels
        made = [self.op("split", [x], (first, source.rows, source.cols), starts=(0, 0), steps=(1, 1))]
        made += [self._tensor(count, source.rows, source.cols) for count in others]
        self.ops[-1] = replace(self.ops[-1], outputs=tuple(made))
        return tuple(made)

    def upsample(self, x: int, factor: int = 2) -> int:
        """Nearest upsampling."""
        source = self.tensors[x]
        shape = (source.channels, source.rows * factor, source.cols * factor)
        return self.op("resize", [x], shape, mode="nearest", coordinates="asymmetric", nearest="floor")

    def global_pool(self, x: int) -> int:
        """A global average pool: a streaming reduction."""
        return self.op("reduce", [x], (self.tensors[x].channels, 1, 1), mode="mean")

    def squeeze_excite(self, x: int, squeezed: int) -> int:
        """Global pool, two fully connected layers, and the scaling that rejoins the map."""
        channels = self.tensors[x].channels
        vector = self.conv(self.conv(self.global_pool(x), squeezed, kernel=1), channels, kernel=1)
        return self.op("elementwise", [x, vector], self.tensors[x].shape[1:], function="Mul")

    def linear(self, x: int, features: int) -> int:
        """A fully connected layer with bias on the whole tensor."""
        inside = self.tensors[x].elements // self.batch
        weights = inside * features
        return self.op(
            "linear",
            [x],
            (features, 1, 1),
            weights=weights,
            biases=features,
            macs=weights * self.batch,
            in_features=inside,
            out_features=features,
            flatten=self.tensors[x].rows > 1,
        )

    def barrier(self, x: int) -> int:
        """An op nobody knows."""
        return self.op("opaque", [x], self.tensors[x].shape[1:])

    def graph(self, *outputs: int) -> Graph:
        """The finished network; by default every tensor nobody reads is an output."""
        read = {t for op in self.ops for t in op.inputs}
        ends = outputs or tuple(t for op in self.ops for t in op.outputs if t not in read)
        return Graph(self.name, tuple(self.tensors), tuple(self.ops), tuple(self.inputs), ends)
