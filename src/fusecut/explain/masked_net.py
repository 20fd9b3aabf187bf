"""The validity network of one group, made for being explained many times over."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.nn import MessagePassing

from fusecut.explain.gnn import ValidityNet


class MaskedNet(MessagePassing):
    """Computes what a :class:`ValidityNet` computes for one graph, edges under a soft mask.

    PyTorch Geometric's explainers put their mask into every message-passing module; this one holds all layers, so
    the mask is applied once, to a dense adjacency matrix. The weights need no gradient, the network explained is left
    as it is. O(layers (V^2 + V) hidden) for a graph; the groups explained have at most some hundred ops.

    Logits are divided by ``temperature``.
    """

    def __init__(self, network: ValidityNet) -> None:
        super().__init__()
        self.temperature = 1.0
        self.layers = [
            (_columns(conv.lin_root.weight), _columns(conv.lin_rel.weight), conv.lin_rel.bias.detach())
            for conv in network.convs
        ]
        self.heads = [(_columns(head.weight), head.bias.detach()) for head in (network.hidden, network.out)]

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """Logits (1, 2)."""
        near = self._adjacency(len(x), edge_index)
        for own, others, bias in self.layers:
            x = torch.addmm(torch.addmm(bias, x, own), near, x @ others).relu()
        (hidden, hidden_bias), (out, out_bias) = self.heads
        pooled = torch.addmm(hidden_bias, x.sum(0, keepdim=True), hidden).relu()
        return torch.addmm(out_bias, pooled, out) / self.temperature

    def _adjacency(self, nodes: int, edge_index: Tensor) -> Tensor:
        """How much of the row of each column's node reaches each row's node, (V, V)."""
        mask = torch.ones(edge_index.shape[1]) if self._edge_mask is None else self._edge_mask.sigmoid()
        empty = torch.zeros(nodes * nodes)
        return empty.index_put((edge_index[1] * nodes + edge_index[0],), mask).view(nodes, nodes)


def _columns(weight: Tensor) -> Tensor:
    return weight.detach().t().contiguous()
