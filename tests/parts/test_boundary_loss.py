"""B1 to B13 of the specification; the oracle is the literal form of Eqs. 1 to 4: one-hot, class by class."""

import math

import pytest
import torch
import torch.nn.functional as F

from smalti.parts.losses import BoundaryAwareLoss, BoundaryWeights, SemanticLoss, cross_entropy
from smalti.parts.losses.boundary import border_counts

HALVES = torch.tensor([[0, 0, 1, 1]] * 4)[None]
LINEAR_3 = BoundaryWeights(kernel="linear", size=3, down=1)


def random_labels(*shape, classes=4, void=0.2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, shape, generator=generator)
    return torch.where(torch.rand(shape, generator=generator) < void, 255, labels)


def literal_borders(labels, classes, flip=False):
    """Eq. 1 class by class; the last row and column are repeated."""
    kernel = torch.tensor([[1.0, -0.5], [-0.5, 0.0]])
    pads = (1, 0, 1, 0) if flip else (0, 1, 0, 1)
    kernel = kernel.flip(0, 1) if flip else kernel
    one_hot = torch.stack([labels == k for k in range(classes)], 1).float()
    padded = F.pad(one_hot, pads, mode="replicate")
    answers = F.conv2d(padded.flatten(0, 1)[:, None], kernel[None, None])
    return (answers.abs() > 0).float().view_as(one_hot)


def literal_kernel(weights):
    """Eqs. 5 and 6, brought to 0..1."""
    place = torch.arange(weights.size, dtype=torch.float64) - weights.size // 2
    y, x = place[:, None], place[None]
    raw = (
        weights.size - (x.abs() + y.abs())
        if weights.kernel == "linear"
        else torch.exp(-(x**2 + y**2) / (weights.size * weights.sigma))
    )
    kernel = (raw - raw.min()) / (raw.max() - raw.min())
    return kernel / kernel.sum() if weights.scale == "kernel_sum" else kernel


def literal_blur(borders, weights):
    """The blur of every class by itself with the whole kernel, then the sum (Eq. 3 without beta)."""
    kernel = literal_kernel(weights)[None, None]
    batch, classes, height, width = borders.shape
    flat = borders.double().reshape(-1, 1, height, width)
    small = F.avg_pool2d(flat, weights.down)
    blurred = F.conv2d(small, kernel, padding=weights.size // 2)
    if weights.down > 1:
        blurred = F.interpolate(blurred, (height, width), mode="bilinear", align_corners=False)
    return blurred.view(batch, classes, height, width).sum(1)


def test_b1_no_border_at_the_edge_of_the_picture():
    assert border_counts(HALVES)[0].tolist() == [[0, 2, 0, 0]] * 4


def test_b2_a_single_pixel():
    labels = torch.zeros(1, 5, 5, dtype=torch.int64)
    labels[0, 2, 2] = 1
    assert border_counts(labels)[0].tolist() == [
        [0, 0, 0, 0, 0], [0, 0, 2, 0, 0], [0, 2, 2, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0],
    ]  # fmt: skip
    blurred = BoundaryWeights(kernel="linear", size=3, down=1, scale="none", beta=0.0)(labels)[0]
    expected = [[0, 0, 1, 0, 0], [0, 2, 3, 1, 0], [1, 3, 4, 1, 0], [0, 1, 1, 0, 0], [0, 0, 0, 0, 0]]
    torch.testing.assert_close(blurred, torch.tensor(expected).float(), atol=1e-6, rtol=0)
    assert float(blurred.sum()) == pytest.approx(18)


def test_b3_numbers_worked_out_by_hand():
    weights = LINEAR_3(HALVES)[0]
    rows = torch.tensor([[0.75, 1.25, 0.75, 0.5], [0.75, 1.5, 0.75, 0.5]])
    torch.testing.assert_close(weights, rows[[0, 1, 1, 0]], atol=1e-6, rtol=0)
    assert float(weights.mean()) == pytest.approx(0.84375, abs=1e-6)
    logits = torch.zeros(1, 2, 4, 4)
    assert float(BoundaryAwareLoss(weights=LINEAR_3)(logits, HALVES)) == pytest.approx(0.584843, abs=1e-6)
    unscaled = BoundaryWeights(kernel="linear", size=3, down=1, scale="none")
    expected = torch.tensor([[1, 3, 1, 0], [1, 4, 1, 0], [1, 4, 1, 0], [1, 3, 1, 0]]) + 0.5
    torch.testing.assert_close(unscaled(HALVES)[0], expected, atol=1e-6, rtol=0)
    assert float(BoundaryAwareLoss(weights=unscaled)(logits, HALVES)) == pytest.approx(1.299651, abs=1e-6)


def test_b4_three_classes_meet():
    assert border_counts(torch.tensor([[[0, 1], [2, 2]]]))[0].tolist() == [[3, 2], [0, 0]]
    labels = torch.zeros(1, 4, 4, dtype=torch.int64)
    labels[0, 2:, 2:] = 1
    assert border_counts(labels)[0].tolist() == [[0, 0, 0, 0], [0, 0, 2, 2], [0, 2, 0, 0], [0, 2, 0, 0]]


def test_b5_both_sides_of_a_ring_of_ignored_pixels():
    row = torch.tensor([[[0, 0, 255, 1, 1, 1]]])
    assert border_counts(row)[0].tolist() == [[0, 1, 1, 0, 0, 0]]
    assert border_counts(row, drop_ignored=True).sum() == 0


def test_another_value_can_be_the_ignored_one():
    labels = random_labels(2, 9, 9)
    other = torch.where(labels == 255, 77, labels)
    torch.testing.assert_close(LINEAR_3(labels), LINEAR_3(other, ignored=77))


def test_b6_constant_labels_weigh_beta():
    labels = torch.full((2, 30, 41), 3)
    for scale in ("map_max", "none", "kernel_sum"):
        assert torch.equal(BoundaryWeights(scale=scale)(labels), torch.full((2, 30, 41), 0.5))
    logits = torch.randn(2, 5, 30, 41)
    torch.testing.assert_close(BoundaryAwareLoss()(logits, labels), 0.5 * F.cross_entropy(logits, labels))


def test_b7_beta_one_without_borders_is_plain_cross_entropy():
    labels, logits = torch.ones(1, 9, 9, dtype=torch.int64), torch.randn(1, 3, 9, 9)
    loss = BoundaryAwareLoss(weights=BoundaryWeights(beta=1.0))
    torch.testing.assert_close(loss(logits, labels), F.cross_entropy(logits, labels))


def test_b8_classes_may_be_permuted():
    labels = random_labels(2, 33, 40, classes=5)
    table = torch.arange(256)
    table[:5] = torch.tensor([3, 0, 4, 1, 2])
    assert torch.equal(BoundaryWeights()(labels), BoundaryWeights()(table[labels]))


def test_b9_gradients_reach_the_logits_of_counted_pixels_only():
    labels = random_labels(2, 16, 16)
    logits = torch.randn(2, 4, 16, 16, requires_grad=True)
    BoundaryAwareLoss()(logits, labels).backward()
    gradient = logits.grad.abs().sum(1)
    assert bool((gradient[labels == 255] == 0).all())
    assert bool((gradient[labels != 255] > 0).all())


def test_everything_ignored_is_a_finite_zero():
    logits = torch.randn(1, 3, 8, 8, requires_grad=True)
    loss = BoundaryAwareLoss(weights=BoundaryWeights(weight_norm="mean"))(logits, torch.full((1, 8, 8), 255))
    loss.backward()
    assert loss == 0
    assert not logits.grad.any()


def test_b10_the_gaussian_of_three():
    weights = BoundaryWeights(size=3, sigma=1.0, down=1, scale="none", beta=0.0)
    first, second = weights._factors(5, torch.zeros(1))
    kernel = torch.outer(first[2], second[2]) + torch.outer(second[2], first[2])
    edge = (math.exp(-1 / 3) - math.exp(-2 / 3)) / (1 - math.exp(-2 / 3))
    expected = torch.tensor([[0, edge, 0], [edge, 1, edge], [0, edge, 0]])
    assert edge == pytest.approx(0.4174, abs=5e-5)
    torch.testing.assert_close(kernel[1:4, 1:4], expected, atol=1e-6, rtol=0)
    assert not kernel[0].any()


@pytest.mark.parametrize("flip", [False, True])
def test_b11_counting_labels_is_summing_one_hot_borders(flip):
    labels = random_labels(3, 23, 31, classes=4)
    literal = literal_borders(labels, 4, flip).sum(1)
    assert torch.equal(border_counts(labels, flip=flip).float(), literal)


@pytest.mark.parametrize("kernel", ["gaussian", "linear"])
@pytest.mark.parametrize("down", [1, 4])
@pytest.mark.parametrize("scale", ["none", "kernel_sum", "map_max"])
@pytest.mark.parametrize("size", [3, 15, 35])
def test_b11_one_blur_of_the_sum_is_the_sum_of_the_blurs(kernel, down, scale, size):
    labels = random_labels(2, 24, 40, classes=5)
    weights = BoundaryWeights(kernel=kernel, down=down, scale=scale, size=size, beta=0.0)
    expected = literal_blur(literal_borders(labels, 5), weights)
    if scale == "map_max":
        expected = expected / expected.amax((1, 2), keepdim=True)
    torch.testing.assert_close(weights(labels).double(), expected, atol=1e-6 * float(expected.max()) + 1e-6, rtol=0)


@pytest.mark.parametrize("column", [200, 201, 202, 203])
def test_b12_straight_borders_count_alike_wherever_they_lie(column):
    labels = torch.zeros(1, 400, 400, dtype=torch.int64)
    labels[..., column:] = 1
    peak = {
        mode: float(BoundaryWeights(scale="none", beta=0.0, down_mode=mode)(labels).max())
        for mode in ("area", "bilinear", "antialias")
    }
    assert peak["area"] == pytest.approx(8.8935, abs=1e-3)
    assert peak["antialias"] == pytest.approx(8.88, abs=0.02)
    # The marked column is the one before the border; the literal resize looks at two of four.
    assert peak["bilinear"] == pytest.approx(17.787 if (column - 1) % 4 in (1, 2) else 0.0, abs=1e-3)


def test_b13_moves_with_the_labels():
    labels = torch.zeros(1, 320, 320, dtype=torch.int64)
    labels[0, 140:170, 150:190] = 1
    weights = BoundaryWeights(size=15)
    first, moved = weights(labels), weights(labels.roll((4, 8), (1, 2)))
    torch.testing.assert_close(first[:, 60:250, 60:250], moved[:, 64:254, 68:258], atol=1e-6, rtol=0)


def test_borders_of_padding_are_none():
    labels = random_labels(1, 12, 12, void=0.0)
    padded = F.pad(labels, (0, 6, 0, 4), value=255)
    padding = F.pad(torch.zeros(1, 12, 12, dtype=torch.bool), (0, 6, 0, 4), value=True)
    inside = border_counts(padded, padding)[:, :11, :11]
    assert torch.equal(inside, border_counts(labels)[:, :11, :11])
    assert border_counts(padded, padding)[:, 12:].sum() == 0
    assert border_counts(torch.where(padding, 255, 0 * padded), padding).sum() == 0
    assert border_counts(torch.where(padding, 255, 0 * padded)).sum() > 0


@pytest.mark.parametrize("size", [(1, 1), (3, 7), (37, 53)])
def test_sizes_that_are_no_multiples(size):
    labels = random_labels(2, *size)
    weights = BoundaryWeights()(labels)
    assert weights.shape == labels.shape
    assert bool((weights >= 0.5).all())
    assert bool((weights <= 1.5 + 1e-6).all())


def test_mean_of_the_weights_can_be_one():
    labels = random_labels(2, 24, 24)
    weights = BoundaryWeights(scale="none", weight_norm="mean")(labels)
    for one, truth in zip(weights, labels, strict=True):
        assert float(one[truth != 255].mean()) == pytest.approx(1, abs=1e-5)


def test_autocast_does_not_coarsen_the_weights():
    labels = random_labels(1, 40, 40)
    with torch.autocast("cpu", torch.bfloat16):
        coarse = BoundaryWeights()(labels)
    assert torch.equal(coarse, BoundaryWeights()(labels))


def test_is_one_line_of_any_recipes_loss():
    logits, labels = torch.randn(2, 4, 20, 20), random_labels(2, 20, 20)
    boundary = BoundaryWeights(size=15)
    torch.testing.assert_close(SemanticLoss(boundary=boundary)(logits, labels),
                               BoundaryAwareLoss(weights=boundary)(logits, labels))  # fmt: skip
    both = SemanticLoss(cross_entropy=2.0, boundary=boundary, class_weights=(1.0, 2.0, 0.5, 1.0))
    expected = 2 * cross_entropy(logits, labels, torch.tensor(both.class_weights), boundary(labels))
    torch.testing.assert_close(both(logits, labels), expected)
    with pytest.raises(ValueError, match="boundary weights act on the cross-entropy"):
        SemanticLoss(cross_entropy=0.0, dice=1.0, boundary=boundary)


def test_the_mode_is_said_in_words():
    assert str(SemanticLoss()) == "1 cross entropy"
    text = str(SemanticLoss(boundary=BoundaryWeights(scale="none", weight_norm="mean", ignored_edges="drop")))
    assert text == (
        "1 cross entropy, boundary-aware (gaussian 35 sigma 3, beta 0.5, down 4 area, scale none, divided by their "
        "mean, borders of ignored pixels dropped)"
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [("kernel", "box"), ("size", 4), ("size", 1), ("size", 35.0), ("down", 2.5), ("sigma", 0.0), ("beta", -0.1),
     ("down", 0), ("down_mode", "mean"), ("scale", "max"), ("weight_norm", "sum"), ("ignored_edges", "maybe"),
     ("sigma", "3"), ("beta", None), ("down", True), ("flip", "yes")],
)  # fmt: skip
@pytest.mark.usefixtures("unchecked")
def test_bad_values_are_named(field, value):
    with pytest.raises(ValueError, match=f"boundary weights: {field} must be"):
        BoundaryWeights(**{field: value})


@pytest.mark.usefixtures("unchecked")
def test_bad_labels_are_named():
    with pytest.raises(ValueError, match="must agree in batch, height and width"):
        BoundaryAwareLoss()(torch.zeros(1, 2, 4, 5), HALVES)
    with pytest.raises(ValueError, match="label 7 is no class of the logits, which have 2"):
        BoundaryAwareLoss()(torch.zeros(1, 2, 4, 4), HALVES * 7)
    with pytest.raises(ValueError, match="label -1 is no class"):
        BoundaryAwareLoss()(torch.zeros(1, 2, 4, 4), -HALVES)


@pytest.mark.usefixtures("unchecked")
def test_labels_and_masks_of_another_kind_are_named():
    weights = BoundaryWeights()
    with pytest.raises(ValueError, match=r"whole numbers up to 255, got \(1, 4, 4\) of torch.float32"):
        weights(HALVES.float())
    with pytest.raises(ValueError, match=r"whole numbers up to 255, got \(4, 4\) of"):
        weights(HALVES[0])
    with pytest.raises(ValueError, match=r"got \(0, 4, 4\) of"):
        weights(HALVES[:0])
    with pytest.raises(ValueError, match=r"of torch.int8"):
        weights(HALVES.to(torch.int8))
    with pytest.raises(ValueError, match=r"as large as the labels \(1, 4, 4\), got \(1, 4, 5\)"):
        weights(HALVES, torch.zeros(1, 4, 5, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"True and False.* got \(1, 4, 4\) of torch.int64"):
        weights(HALVES, torch.zeros(1, 4, 4, dtype=torch.int64))
