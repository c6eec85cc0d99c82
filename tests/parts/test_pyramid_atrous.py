"""P1 and P3 to P6 of the specification; the oracle is the literal form, one dilated convolution a rate."""

import pytest
import torch
import torch.nn.functional as F

from smalti.parts.context.aspp import AtrousSpatialPyramid
from smalti.parts.context.pyramid_atrous import PyramidAtrousConvolution, _shifted_copies, atrous_convolutions
from smalti.parts.convolution import conv_norm_relu, convolve_concatenation

RATES = (1, 3, 5, 7, 9)


def parameters(module):
    return sum(p.numel() for p in module.parameters())


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_p1_parameters():
    with torch.device("meta"):
        assert PyramidAtrousConvolution(2048, 256).weight.numel() == 4_718_592
        assert parameters(PyramidAtrousConvolution(2048, 256)) == 4_721_152
        assert parameters(PyramidAtrousConvolution(2048, 256, norm="post")) == 4_719_104
        assert parameters(PyramidAtrousConvolution(2048, 256, norm="shared")) == 4_719_104
        assert parameters(AtrousSpatialPyramid(2048, 256)) == 14_157_312


@pytest.mark.parametrize("size", [(7, 6), (1, 1), (2, 30), (33, 33)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_every_rate_is_its_dilated_convolution(size, layout):
    x = torch.randn(2, 5, *size, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    weight = torch.randn(4, 5, 3, 3, dtype=torch.float64, requires_grad=True)
    ours = atrous_convolutions(x, weight, tuple((rate,) for rate in RATES))
    literal = [F.conv2d(x, weight, dilation=rate, padding=rate) for rate in RATES]
    upstream = [torch.randn_like(one) for one in literal]
    for a, b in zip(ours, literal, strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-12)
    found = torch.autograd.grad(ours, (x, weight), upstream)
    expected = torch.autograd.grad(literal, (x, weight), upstream)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-11, rtol=1e-11)


def test_rounding_of_bfloat16_is_that_of_the_literal_form():
    x, weight = torch.randn(2, 64, 33, 33), torch.randn(32, 64, 3, 3) / 24
    exact = F.conv2d(x, weight, dilation=5, padding=5)
    with torch.autocast("cpu", torch.bfloat16):
        (ours,) = atrous_convolutions(x, weight, ((5,),))
        literal = F.conv2d(x, weight, dilation=5, padding=5)
    assert ours.dtype == literal.dtype == torch.bfloat16
    error, of_literal = (float((one.float() - exact).pow(2).mean().sqrt()) for one in (ours, literal))
    assert error < 3 * of_literal


def test_p3_gradient_of_the_shared_filter_is_the_sum_over_the_rates():
    pac = PyramidAtrousConvolution(3, 4, RATES, norm="shared").double()
    assert sum(p.ndim == 4 for p in pac.parameters()) == 1
    x = torch.randn(2, 3, 21, 19, dtype=torch.float64)
    answers = atrous_convolutions(x, pac.weight, tuple((rate,) for rate in RATES))
    together = torch.autograd.grad(sum(a.pow(2).sum() for a in answers), pac.weight)[0]
    alone = [
        torch.autograd.grad(F.conv2d(x, pac.weight, dilation=r, padding=r).pow(2).sum(), pac.weight)[0] for r in RATES
    ]
    torch.testing.assert_close(together, sum(alone), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("merge", ["sum", "concat"])
def test_p3_unshared_copies_with_equal_weights_answer_the_same(merge):
    pac = PyramidAtrousConvolution(3, 4, RATES, merge="sum")
    unshared = AtrousSpatialPyramid(3, 4, RATES, merge=merge)
    for branch in unshared.branches:
        branch[0].weight.data.copy_(pac.weight.data)
    x = torch.randn(2, 3, 21, 19)
    answer = unshared(x)
    assert unshared.out_channels == answer.shape[1]
    if merge == "concat":
        answer = sum(answer.chunk(len(RATES), 1))
    torch.testing.assert_close(pac(x), answer, atol=1e-5, rtol=1e-5)


def test_p4_the_linear_sum_is_one_sparse_filter_of_19():
    weight = torch.randn(2, 3, 3, 3, dtype=torch.float64)
    wide = torch.zeros(2, 3, 19, 19, dtype=torch.float64)
    for rate in RATES:
        for row in range(3):
            for column in range(3):
                wide[:, :, 9 + (row - 1) * rate, 9 + (column - 1) * rate] += weight[:, :, row, column]
    assert int((wide[0, 0] != 0).sum()) == 41
    torch.testing.assert_close(wide[:, :, 9, 9], 5 * weight[:, :, 1, 1])
    x = torch.randn(2, 3, 25, 31, dtype=torch.float64)
    (ours,) = atrous_convolutions(x, weight, (RATES,))
    assert float((ours - F.conv2d(x, wide, padding=9)).abs().max()) < 1e-10


def test_p5_counts_of_taps():
    channels = 7
    ones, weight = torch.ones(1, channels, 40, 40), torch.ones(1, channels, 3, 3)
    for rates, inside, corner in ((RATES, 45, 20), ((6, 12, 18), 27, 12)):
        (total,) = atrous_convolutions(ones, weight, (rates,))
        assert float(total[0, 0, 20, 20]) == inside * channels
        assert float(total[0, 0, 0, 0]) == corner * channels


def test_p6_rate_one_is_a_plain_convolution():
    x, weight = torch.randn(1, 3, 9, 9), torch.randn(2, 3, 3, 3)
    torch.testing.assert_close(atrous_convolutions(x, weight, ((1,),))[0], F.conv2d(x, weight, padding=1))


@pytest.mark.parametrize("merge", ["sum", "concat"])
@pytest.mark.parametrize("norm", ["per_rate", "post", "shared"])
def test_merges_and_norms_follow_their_definition(merge, norm):
    pac = PyramidAtrousConvolution(3, 4, (1, 2), merge, norm).eval()
    for module in pac.modules():  # so that a normalisation does something
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 2)
            module.running_mean.uniform_(-1, 1)
    x = torch.randn(2, 3, 8, 9)
    answers = [F.conv2d(x, pac.weight, dilation=r, padding=r) for r in (1, 2)]
    if norm != "post":
        norms = pac.norms if norm == "per_rate" else [pac.norms[0]] * 2
        answers = [F.relu(n(a)) for n, a in zip(norms, answers, strict=True)]
    expected = sum(answers) if merge == "sum" else pac.fuse(torch.cat(answers, 1))
    if norm == "post" or merge == "concat":
        expected = F.relu(pac.out_norm(expected))
    torch.testing.assert_close(pac(x), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("rates", [(), (0,), (1, -3), (1.5,)])
@pytest.mark.parametrize("block", [PyramidAtrousConvolution, AtrousSpatialPyramid])
def test_rates_must_be_positive_whole_numbers(block, rates):
    with pytest.raises(ValueError, match="rates must be positive whole numbers"):
        block(3, 4, rates)


@pytest.mark.usefixtures("unchecked")
def test_unknown_merges_and_norms_are_named():
    for block in (PyramidAtrousConvolution, AtrousSpatialPyramid):
        with pytest.raises(ValueError, match='merge must be "sum" or "concat"'):
            block(3, 4, merge="mean")
    with pytest.raises(ValueError, match='norm "per_rate", "post" or "shared"'):
        PyramidAtrousConvolution(3, 4, norm="before")


def test_a_concatenation_need_not_be_built():
    conv = torch.nn.Conv2d(3 + 4 + 5, 6, 1)
    maps = [torch.randn(2, 3, 9, 12), torch.randn(2, 4, 1, 1), torch.randn(2, 5, 3, 4)]
    resized = [F.interpolate(m, (9, 12), mode="bilinear", align_corners=False) for m in maps]
    torch.testing.assert_close(convolve_concatenation(conv, maps), conv(torch.cat(resized, 1)), atol=1e-5, rtol=1e-5)


def test_convolution_keeps_the_size():
    assert conv_norm_relu(3, 4, 3, dilation=5)(torch.randn(2, 3, 11, 13)).shape == (2, 4, 11, 13)


@pytest.mark.parametrize("groups", [((1, 3, 5),), ((1,), (2,), (4, 9))])
@pytest.mark.parametrize("size", [(12, 9), (3, 20), (1, 1)])
def test_the_form_that_is_exported_is_the_same(groups, size):
    """Oracle: torch's own convolutions, also where a rate reaches beyond the map."""
    torch.manual_seed(0)
    x, weight = torch.randn(2, 5, *size), torch.randn(4, 5, 3, 3)
    taps = F.conv2d(x, weight.permute(2, 3, 0, 1).reshape(36, 5, 1, 1))
    for found, rates in zip(_shifted_copies(taps, groups), groups, strict=True):
        literal = sum(F.conv2d(x, weight, dilation=rate, padding=rate) for rate in rates)
        torch.testing.assert_close(found, literal, atol=1e-4, rtol=1e-4)
