"""Linear layers whose weights are laid out once for oneDNN, rather than at every call. CPU only, equal bit by bit."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from kaelum_graph.models.file_pages import FilePages

BATCH_HINT = 8
"""Rows that the layout is chosen for. Layouts chosen for 1 and for 32 rows ran equally fast at 1, 8 and 32."""


class PackedLinear(nn.Module):
    """`nn.Linear` for inference. Holds its weight in the processor's own layout alone, so memory stays equal."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features = linear.in_features
        self.out_features = linear.out_features
        packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), BATCH_HINT)
        self._packed: Tensor = packed
        self.bias = linear.bias

    def forward(self, input: Tensor) -> Tensor:
        """`input` `[..., in_features]` to `[..., out_features]`."""
        return torch.ops.mkldnn._linear_pointwise(input, self._packed, self.bias, "none", [], "")


def can_pack(linear: nn.Module) -> bool:
    """True for a plain CPU layer in bfloat16 or float32 that nothing hooks into."""
    if (
        type(linear) is not nn.Linear
        or hasattr(linear, "_hf_hook")
        or linear._forward_hooks
        or linear._forward_pre_hooks
    ):
        return False
    weight = linear.weight
    if weight.device.type != "cpu" or weight.dtype not in (torch.bfloat16, torch.float32):
        return False
    return weight.dtype == torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported()


def pack_linear_layers(model: nn.Module) -> int:
    """Replace every layer of `model` that `can_pack`, in place; how many. 0 where this torch has no oneDNN.

    An output layer that shares its weight with the embedding is left alone: a packed copy would be a second one.
    """
    if not torch.backends.mkldnn.is_available():
        return 0
    owners: dict[int, int] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    packed = 0
    pages = FilePages()
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if can_pack(child) and owners[id(_weight(child))] == 1:
                setattr(parent, name, PackedLinear(child))  # type: ignore[arg-type]
                # The weights file stays mapped for as long as any of its tensors lives.
                pages.release(_weight(child))
                packed += 1
    return packed


def _weight(linear: Any) -> nn.Parameter:
    return linear.weight
