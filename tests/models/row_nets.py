"""Random networks and groups for the tests of the line-buffer model. No test lives here."""

from __future__ import annotations

from numpy.random import Generator

from fusecut.ir import AttrValue, Graph, Group
from fusecut.testing import Net, random_graph

COORDINATES = ("align_corners", "half_pixel", "half_pixel_symmetric", "asymmetric", "tf_half_pixel_for_nn")
NEAREST = ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")
RATIOS = ((2, 1), (3, 2), (4, 3), (1, 2), (2, 3), (3, 1), (7, 5))
KINDS = ("resize", "pad", "conv", "conv", "conv", "transposed", "add", "add", "slice", "stack")
TALLEST = 60


def groups_of(graph: Graph, most: int | None = None) -> list[Group]:
    """Connected, convex groups: all of them, or about ``most`` spread evenly, the largest included."""
    every = [g for g in range(1, 1 << len(graph)) if graph.is_connected(g) and graph.is_convex(g)]
    if most is None or len(every) <= most:
        return every
    return sorted({*every[:: len(every) // most], every[-1]})


def everyday_net(rng: Generator) -> Graph:
    """Convolutions, pools, joins, upsampling, reductions, squeeze-excite, barriers."""
    return random_graph(rng, int(rng.integers(2, 9)), rows=int(rng.integers(6, 26)), inputs=int(rng.integers(1, 3)))


def odd_net(rng: Generator, pads: tuple[str, ...] = ("constant", "edge")) -> Graph:
    """Every row map there is: resizes, pads and crops, transposed convolutions, slices, stacked maps."""
    net = Net("odd")
    made = [net.input(1, int(rng.integers(8, 26)), 3) for _ in range(int(rng.integers(1, 3)))]
    while len(net.ops) < int(rng.integers(2, 8)):
        x = made[int(rng.integers(max(0, len(made) - 4), len(made)))]
        tensor = _odd_op(net, rng, str(rng.choice(KINDS)), x, made, pads)
        if tensor is not None:
            made.append(tensor)
    return net.graph()


def shifted_net(rng: Generator) -> Graph:
    """A chain with skips whose windows are shifted against each other: causal pads, crops, lopsided convolutions."""
    net = Net("shifted")
    made = [net.input(2, int(rng.integers(8, 20)), 4)]
    for _ in range(int(rng.integers(2, 7))):
        x, rows = made[-1], net.tensors[made[-1]].rows
        kind = str(rng.choice(["conv", "shift", "shift", "add", "add", "lopsided"]))
        kernel = int(rng.integers(1, 5))
        if kind == "add" and len(made) > 1:
            made.append(net.add(x, made[int(rng.integers(len(made) - 1))]))
        elif kind == "shift":
            by = int(rng.integers(-3, 4))
            mode = str(rng.choice(["constant", "edge"]))
            made.append(net.op("pad", [x], (2, rows, 4), pads=(by, 0, -by, 0), mode=mode))
        elif kind == "lopsided":
            top = int(rng.integers(0, kernel + 3))
            pads = (top, 0, max(0, kernel - 1 - top), 0)
            made.append(net.op("conv", [x], (2, rows, 4), kernel=(kernel, 1), strides=(1, 1), pads=pads))
        else:
            made.append(net.conv(x, 2, kernel=int(rng.choice([1, 3]))))
    return net.graph()


def split_net(rng: Generator) -> Graph:
    """A chain that is split over channels, where parts take ways of their own and meet again."""
    net = Net("split")
    made = [net.input(4, int(rng.integers(6, 16)), 3)]
    while len(net.ops) < int(rng.integers(4, 10)):
        x = made[int(rng.integers(max(0, len(made) - 3), len(made)))]
        channels = net.tensors[x].channels
        mates = [t for t in made if t != x and net.tensors[t].rows == net.tensors[x].rows]
        kind = str(rng.choice(["split", "split", "conv", "conv", "join", "join", "look"]))
        if kind == "split" and channels > 1:
            made += net.split(x, channels // 2, channels - channels // 2)
        elif kind in ("join", "look") and mates:
            mate = int(rng.choice(mates))
            whole = net.op("matmul", [x, mate], (channels, net.tensors[x].rows, 3), row_operand=0)
            made.append(whole if kind == "look" else net.concat(x, mate))
        elif kind == "conv":
            made.append(net.conv(x, 4, kernel=int(rng.choice([1, 3, 5])), stride=int(rng.choice([1, 1, 2]))))
    return net.graph()


def _odd_op(net: Net, rng: Generator, kind: str, x: int, made: list[int], pads: tuple[str, ...]) -> int | None:
    if kind in ("add", "stack"):
        return _joined(net, rng, kind, x, made)
    rows = net.tensors[x].rows
    out, attrs = {
        "resize": _resize,
        "pad": lambda rng, rows: _pad(rng, rows, pads),
        "conv": _conv,
        "transposed": _transposed,
        "slice": _slice,
    }[kind](rng, rows)
    if not 1 <= out <= TALLEST:
        return None
    return net.op("conv_transpose" if kind == "transposed" else kind, [x], (1, out, 3), **attrs)  # type: ignore[arg-type]


Drawn = tuple[int, dict[str, AttrValue]]


def _resize(rng: Generator, rows: int) -> Drawn:
    over, under = RATIOS[int(rng.integers(len(RATIOS)))]
    attrs: dict[str, AttrValue] = {
        "mode": str(rng.choice(["nearest", "linear", "cubic"])),
        "coordinates": str(rng.choice(COORDINATES)),
        "nearest": str(rng.choice(NEAREST)),
    }
    if rng.random() < 0.5:
        attrs["scale"] = (over, under, 1, 1)
    return rows * over // under, attrs


def _pad(rng: Generator, rows: int, modes: tuple[str, ...]) -> Drawn:
    top, bottom = int(rng.integers(-2, 4)), int(rng.integers(-2, 4))
    out = rows + top + bottom if rows + min(top, 0) + min(bottom, 0) > 1 else 0
    return out, {"pads": (top, 0, bottom, 0), "mode": str(rng.choice(modes))}


def _window(rng: Generator) -> tuple[int, int, int, int]:
    kernel = int(rng.integers(1, 6))
    return kernel, int(rng.integers(1, 4)), int(rng.integers(1, 3)), int(rng.integers(0, kernel))


def _attrs(kernel: int, stride: int, dilation: int, pad: int) -> dict[str, AttrValue]:
    return {"kernel": (kernel, 1), "strides": (stride, 1), "dilations": (dilation, 1), "pads": (pad, 0, pad, 0)}


def _conv(rng: Generator, rows: int) -> Drawn:
    kernel, stride, dilation, pad = _window(rng)
    return (rows + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1, _attrs(kernel, stride, dilation, pad)


def _transposed(rng: Generator, rows: int) -> Drawn:
    kernel, stride, dilation, pad = _window(rng)
    pad = min(pad, 1)
    return (rows - 1) * stride + dilation * (kernel - 1) + 1 - 2 * pad, _attrs(kernel, stride, dilation, pad)


def _slice(rng: Generator, rows: int) -> Drawn:
    start, step = int(rng.integers(0, 4)), int(rng.integers(1, 3))
    return (rows - start - 1) // step + 1, {"starts": (start, 0), "steps": (step, 1)}


def _joined(net: Net, rng: Generator, kind: str, x: int, made: list[int]) -> int | None:
    rows = net.tensors[x].rows
    mates = [t for t in made if t != x and (kind == "stack" or net.tensors[t].rows == rows)]
    if not mates:
        return None
    mate = int(rng.choice(mates))
    if kind == "add":
        return net.add(x, mate)
    total = rows + net.tensors[mate].rows
    return net.op("concat", [x, mate], (1, total, 3), axis=0, offsets=(0, rows)) if total <= TALLEST else None
