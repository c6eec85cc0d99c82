"""TensorFlow's padding; oracle: timm's own convolution with it."""

import pytest
import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import nn

from smalti.parts.same_padding import SameConv2d, own_same_padding, pad_same


@pytest.mark.parametrize(("kernel", "stride"), [(k, s) for k in (1, 2, 3, 5, 7) for s in (1, 2, 3)])
@pytest.mark.parametrize("size", [(7, 8), (9, 13), (16, 1)])
def test_it_answers_as_timm(kernel, stride, size):
    torch.manual_seed(0)
    theirs = Conv2dSame(3, 4, kernel, stride=stride)
    x = torch.randn(2, 3, *size)
    ours = SameConv2d.taking_over(theirs)
    torch.testing.assert_close(ours(x), theirs(x), atol=0, rtol=0)
    assert ours(x).shape[-2:] == tuple(-(-side // stride) for side in size)


def test_dilation():
    theirs = Conv2dSame(2, 2, 3, stride=2, dilation=3)
    x = torch.randn(1, 2, 17, 18)
    torch.testing.assert_close(SameConv2d.taking_over(theirs)(x), theirs(x), atol=0, rtol=0)


def test_the_odd_pixel_is_right_and_below():
    padded = pad_same(torch.ones(1, 1, 4, 5), nn.Conv2d(1, 1, 3, stride=2))
    assert padded[0, 0, 0].tolist() == [0, 1, 1, 1, 1, 1, 0]  # 5 columns: one on each side
    assert padded[0, 0, :, 1].tolist() == [1, 1, 1, 1, 0]  # 4 rows: one below


def test_the_size_of_a_map_is_a_short_expression_after_many_strides():
    layers = nn.Sequential(*(SameConv2d.taking_over(Conv2dSame(1, 1, 3, stride=2)) for _ in range(5)))
    dynamic = ({2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC},)
    graph = torch.export.export(layers, (torch.zeros(1, 1, 100, 130),), dynamic_shapes=dynamic).graph
    rows = list(graph.nodes)[-1].args[0][0].meta["val"].shape[2].node.expr
    (size,) = rows.free_symbols
    assert str(rows).count(str(size)) == 1
    assert [int(rows.subs(size, side)) for side in (64, 65, 33, 31)] == [2, 3, 2, 1]


def test_names_of_parameters_stay():
    network = nn.Sequential(Conv2dSame(3, 4, 3, stride=2), nn.Conv2d(4, 4, 3))
    names = list(network.state_dict())
    own_same_padding(network)
    assert list(network.state_dict()) == names
    assert [type(layer) for layer in network] == [SameConv2d, nn.Conv2d]
