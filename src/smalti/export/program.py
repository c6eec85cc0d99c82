"""A network as one graph for pictures of any size: what the files of all runtimes are made from."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from smalti.containers import Outputs, Size
from smalti.models.contract import SegmentationModel
from smalti.recipe import InputPolicy

INPUT = "images"
TRACED: Size = (736, 992)
"""About the size at which the graph is traced: larger than any window of a network, so that no shortcut for small maps
is taken. Any other size works as well."""
MOST_STRIDES = 4096
"""A side of the input in strides, at most; torch.export wants a limit."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """The graph from unsigned-integer pictures to those of `Outputs` that the network has, by name."""

    graph: torch.export.ExportedProgram
    outputs: tuple[str, ...]


def to_program(model: SegmentationModel, policy: InputPolicy) -> Program:
    """The network as a graph with dynamic batch, height and width; of fixed size where the input policy fixes it.

    Raises:
        ValueError: If something in the network cannot be written as a graph.
    """
    names: list[str] = []
    fixed = policy.size if policy.fit != "pad" else None
    sides = [-(-side // model.stride) * model.stride for side in fixed or TRACED]
    pictures = torch.zeros((2, model.in_channels, *sides), dtype=torch.uint8)
    batch = torch.export.Dim.DYNAMIC
    dynamic = {0: batch} if fixed else {0: batch, 2: _side(model.stride, "rows"), 3: _side(model.stride, "columns")}
    try:
        with torch.no_grad():
            graph = torch.export.export(_Answers(model, names.extend), (pictures,), dynamic_shapes=(dynamic,))
    except Exception as error:  # torch.export raises whatever it likes
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f"this network cannot be written as a graph for other runtimes: {first}") from error
    _allow_any_size(graph)
    return Program(graph=graph, outputs=tuple(dict.fromkeys(names)))


def _allow_any_size(graph: torch.export.ExportedProgram) -> None:
    """Takes back the smallest sizes that torch.export concluded from comparing maps with single pixels.

    What such comparisons choose between answers alike, which the tests of all networks check from one pixel on.
    """
    for symbol, limits in graph.range_constraints.items():
        graph.range_constraints[symbol] = type(limits)(1, limits.upper)


def _side(stride: int, name: str) -> object:
    if stride == 1:
        return torch.export.Dim.DYNAMIC
    return stride * torch.export.Dim(name, min=1, max=MOST_STRIDES)


class _Answers(nn.Module):
    """The network with a plain tuple of what it answers; says the names as they are found."""

    def __init__(self, model: SegmentationModel, tell: Callable[[list[str]], None]) -> None:
        super().__init__()
        self.model = model.eval()
        self._tell = tell

    def forward(self, images: UInt8[Tensor, "batch channels height width"]) -> tuple[Tensor, ...]:
        outputs: Outputs = self.model(images)
        found = {name: value for name, value in outputs._asdict().items() if isinstance(value, Tensor)}
        self._tell(list(found))
        return tuple(found.values())
