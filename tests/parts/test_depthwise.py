import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from smalti.parts.depthwise import DepthwiseConv2d, speed_up_depthwise


def test_answers_and_names_do_not_change():
    plain = timm.create_model("tf_efficientnet_lite0", features_only=True).eval()
    fast = timm.create_model("tf_efficientnet_lite0", features_only=True).eval()
    fast.load_state_dict(plain.state_dict())
    speed_up_depthwise(fast)
    assert fast.state_dict().keys() == plain.state_dict().keys()
    replaced = sum(isinstance(m, DepthwiseConv2d) for m in fast.modules())
    assert replaced == sum(isinstance(m, nn.Conv2d) and m.groups > 1 for m in plain.modules()) == 16
    x = torch.randn(1, 3, 61, 75)
    for a, b in zip(plain(x), fast(x), strict=True):
        torch.testing.assert_close(a, b)


GEOMETRIES = [
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 3, "padding": 0},
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": 3, "padding": 2, "dilation": 2},
    {"kernel_size": 3, "padding": 3, "dilation": 3},
    {"kernel_size": 5, "padding": 2},
    {"kernel_size": 5, "stride": 2, "padding": 2},
    {"kernel_size": 5, "padding": 4, "dilation": 2},
    {"kernel_size": 7, "padding": 3},
    {"kernel_size": 5, "padding": (1, 4), "dilation": (1, 2)},
    # Those without a fast way of their own: even sides, oblongs, both a stride and a dilation, more padding than taps.
    {"kernel_size": 4, "padding": 1},
    {"kernel_size": (3, 5), "padding": (1, 2)},
    {"kernel_size": 3, "stride": 2, "padding": 2, "dilation": 2},
    {"kernel_size": 3, "padding": 4},
    {"kernel_size": 3, "padding": (1, 4)},
]


@pytest.mark.parametrize("size", [(19, 17), (16, 22), (9, 9)])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_gradients_are_those_of_torch(geometry, size):
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 8, groups=8, bias=True, **geometry).double()
    own = nn.Conv2d(8, 8, groups=8, bias=True, **geometry)
    own.load_state_dict(conv.state_dict())
    module = nn.Sequential(own)
    speed_up_depthwise(module)
    assert isinstance(module[0], DepthwiseConv2d)
    x = torch.randn(2, 8, *size, dtype=torch.double, requires_grad=True)
    y = conv(x)
    upstream = torch.randn_like(y)
    y.backward(upstream)
    x32 = x.detach().float().requires_grad_()
    module(x32).backward(upstream.float())
    torch.testing.assert_close(x32.grad, x.grad.float(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(own.weight.grad, conv.weight.grad.float(), atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(own.bias.grad, conv.bias.grad.float(), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_gradients_under_autocast_are_those_of_float32(geometry):
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 8, groups=8, bias=True, **geometry)
    module = nn.Sequential(conv)
    speed_up_depthwise(module)
    x = torch.randn(2, 8, 21, 18, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = module(x)
    assert y.dtype == torch.bfloat16
    upstream = torch.randn_like(y)
    y.backward(upstream)
    # Oracle: the same bfloat16 values, differentiated in float32 by torch.
    x32 = x.detach().bfloat16().float().requires_grad_()
    w32 = conv.weight.detach().bfloat16().float().requires_grad_()
    F.conv2d(x32, w32, None, conv.stride, conv.padding, conv.dilation, 8).backward(upstream.float())
    torch.testing.assert_close(x.grad, x32.grad, atol=0.02, rtol=0.01)
    torch.testing.assert_close(conv.weight.grad, w32.grad, atol=0.05, rtol=0.01)
    torch.testing.assert_close(conv.bias.grad, upstream.float().sum((0, 2, 3)), atol=0.1, rtol=0.01)


def test_frozen_weights_get_no_gradient():
    module = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False))
    speed_up_depthwise(module)
    module[0].weight.requires_grad_(False)
    x = torch.randn(1, 4, 5, 5, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        module(x).sum().backward()
    assert module[0].weight.grad is None
    assert x.grad is not None


def test_other_convolutions_stay():
    module = nn.Sequential(nn.Conv2d(4, 8, 3, groups=4), nn.Conv2d(4, 4, 3, groups=2), nn.Conv2d(1, 1, 3))
    speed_up_depthwise(module)
    assert all(type(m) is nn.Conv2d for m in module)


def test_dilated_encoders_answer_as_before():
    plain = timm.create_model("tf_efficientnet_lite0", features_only=True, output_stride=8).eval()
    fast = timm.create_model("tf_efficientnet_lite0", features_only=True, output_stride=8).eval()
    fast.load_state_dict(plain.state_dict())
    speed_up_depthwise(fast)
    x = torch.randn(1, 3, 61, 75)
    for a, b in zip(plain(x), fast(x), strict=True):
        torch.testing.assert_close(a, b)


def test_second_gradients_are_refused_by_name():
    conv = DepthwiseConv2d.taking_over(nn.Conv2d(4, 4, 5, padding=2, groups=4), False)
    x = torch.randn(1, 4, 9, 9, requires_grad=True)
    (slope,) = torch.autograd.grad(conv(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()
