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


def test_gradients_under_autocast_are_those_of_float32():
    conv = nn.Conv2d(8, 8, 5, 2, 2, groups=8, bias=True)
    module = nn.Sequential(conv)
    speed_up_depthwise(module)
    assert isinstance(module[0], DepthwiseConv2d)
    x = torch.randn(2, 8, 21, 17, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = module(x)
    assert y.dtype == torch.bfloat16
    upstream = torch.randn_like(y)
    y.backward(upstream)
    # Oracle: the same bfloat16 values, differentiated in float32 by torch.
    x32 = x.detach().bfloat16().float().requires_grad_()
    w32 = conv.weight.detach().bfloat16().float().requires_grad_()
    F.conv2d(x32, w32, None, 2, 2, 1, 8).backward(upstream.float())
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


@pytest.mark.parametrize("dilation", [2, 3])
def test_dilated_gradients_under_autocast_are_those_of_float32(dilation):
    conv = nn.Conv2d(8, 8, 3, padding=dilation, dilation=dilation, groups=8, bias=False)
    module = nn.Sequential(conv)
    speed_up_depthwise(module)
    assert isinstance(module[0], DepthwiseConv2d)
    x = torch.randn(2, 8, 19, 17, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = module(x)
    upstream = torch.randn_like(y)
    y.backward(upstream)
    x32 = x.detach().bfloat16().float().requires_grad_()
    w32 = conv.weight.detach().bfloat16().float().requires_grad_()
    F.conv2d(x32, w32, None, 1, dilation, dilation, 8).backward(upstream.float())
    torch.testing.assert_close(x.grad, x32.grad, atol=0.02, rtol=0.01)
    torch.testing.assert_close(conv.weight.grad, w32.grad, atol=0.05, rtol=0.01)


def test_dilated_encoders_answer_as_before():
    plain = timm.create_model("tf_efficientnet_lite0", features_only=True, output_stride=8).eval()
    fast = timm.create_model("tf_efficientnet_lite0", features_only=True, output_stride=8).eval()
    fast.load_state_dict(plain.state_dict())
    speed_up_depthwise(fast)
    x = torch.randn(1, 3, 61, 75)
    for a, b in zip(plain(x), fast(x), strict=True):
        torch.testing.assert_close(a, b)
