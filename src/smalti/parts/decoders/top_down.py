"""Local top-down modules: each map of a pyramid is enriched by the next two coarser ones, and by no other."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from smalti.parts.convolution import conv_norm_relu

Path = Literal["local", "one", "full", "none"]
Map = Float[Tensor, "batch _ _ _"]


class TopDown(nn.Module):
    """A pyramid F_1 (largest) to F_L, enriched and brought to one number of channels.

    * U1_i = ReLU(BN(conv 3x3(deconv(F_{i+1})))), of the next coarser map;
    * E_i = ReLU(BN(conv 1x1(F_i)) + deconv(U1_{i+1})), through which the second next comes;
    * P_i = conv 1x1(concat(F_i, U1_i, E_i)), batch normalisation and ReLU.

    It is the raw F that is brought up, never P, so nothing comes from farther away. `one` leaves out E; `none` leaves
    out both; with `full` it is P-like sums that are brought up, from the coarsest to the finest, as in a feature
    pyramid network.

    Deconvolutions are 3x3 with stride 2, answered in full and cut to the finer map's size: the same numbers as with the
    padding that this size needs.
    """

    def __init__(self, channels: Sequence[int], path: Path = "local", middle: int = 128, width: int = 384) -> None:
        """`channels` of the maps, from the largest to the smallest."""
        super().__init__()
        self.path = path
        count = len(channels)
        ups = 0 if path == "none" else count - 1
        sums = 0 if path in ("none", "one") else count - 1 if path == "full" else count - 2
        raised = channels[1:] if path != "full" else [*[middle] * (count - 2), channels[-1]]
        self.up = nn.ModuleList(_deconv(raised[i], middle) for i in range(ups))
        self.smooth = nn.ModuleList(conv_norm_relu(middle, middle, 3) for _ in range(ups))
        self.lateral = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels[i], middle, 1, bias=False), nn.BatchNorm2d(middle)) for i in range(sums)
        )
        self.up_again = nn.ModuleList(_deconv(middle, middle) for _ in range(sums if path == "local" else 0))
        joint = [c + middle * ((i < ups) + (i < sums)) for i, c in enumerate(channels)]
        self.reduce = nn.ModuleList(conv_norm_relu(c, width) for c in joint[:-1])
        # DIFFERS: no normalisation on the last map, which is one pixel: of a single picture it has no variance.
        self.reduce.append(nn.Sequential(nn.Conv2d(joint[-1], width, 1), nn.ReLU(inplace=True)))

    def forward(self, maps: Sequence[Map]) -> list[Map]:
        """The enriched maps, of the same sizes."""
        ups = self._full(maps) if self.path == "full" else self._local(maps)
        return [reduce(torch.cat([m, *more], 1)) for m, more, reduce in zip(maps, ups, self.reduce, strict=True)]

    def _local(self, maps: Sequence[Map]) -> list[list[Map]]:
        found: list[list[Map]] = [[] for _ in maps]
        for i, (up, smooth) in enumerate(zip(self.up, self.smooth, strict=True)):
            found[i].append(smooth(_raise(up, maps[i + 1], maps[i])))
        nearest = [more[0] for more in found if more]
        for i, (lateral, up) in enumerate(zip(self.lateral, self.up_again, strict=True)):
            found[i].append(torch.relu(lateral(maps[i]) + _raise(up, nearest[i + 1], maps[i])))
        return found

    def _full(self, maps: Sequence[Map]) -> list[list[Map]]:
        found: list[list[Map]] = [[] for _ in maps]
        below = maps[-1]
        for i in reversed(range(len(maps) - 1)):
            raised = self.smooth[i](_raise(self.up[i], below, maps[i]))
            below = torch.relu(self.lateral[i](maps[i]) + raised)
            found[i] = [raised, below]
        return found


def _deconv(into: int, out: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(into, out, 3, stride=2)


def _raise(deconv: nn.Module, coarse: Map, fine: Map) -> Map:
    """`coarse` at the size of `fine`: 2n + 1 pixels, of which a border is cut where padding would.

    Only the one pixel of the last map may have to grow to more than three; then what the deconvolution answers is
    resized, so that pictures of any size can be answered.
    """
    raised: Tensor = deconv(coarse)
    lengths, first = zip(*(_reach(coarse.shape[axis], fine.shape[axis]) for axis in (-2, -1)), strict=True)
    if lengths != tuple(raised.shape[-2:]):
        raised = F.interpolate(raised, lengths, mode="bilinear", align_corners=False)
    return raised.narrow(-2, first[0], fine.shape[-2]).narrow(-1, first[1], fine.shape[-1])


def _reach(coarse: int, fine: int) -> tuple[int, int]:
    """The length to which 2 * `coarse` + 1 pixels are resized, and the first of the `fine` ones that are kept."""
    if coarse == 1:
        # 1 if `fine` is 1 or 2, else 0. Not by comparing: an exported network would keep to what is true at the size of
        # tracing.
        cut = 2 // fine - 1 // fine
        return fine + (3 - fine) * cut, cut
    return max(2 * coarse + 1, fine), int(fine <= 2 * coarse)
