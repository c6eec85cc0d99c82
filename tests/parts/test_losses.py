import dataclasses
import itertools
import json
import math

import pytest
import torch
from jaxtyping import config
from segmentation_models_pytorch.losses import DiceLoss, JaccardLoss, LovaszLoss
from segmentation_models_pytorch.losses._functional import softmax_focal_loss_with_logits
from torch.nn import functional as F

from smalti.parts.losses import (
    SemanticLoss,
    cross_entropy,
    dice,
    focal,
    jaccard,
    lovasz_softmax,
    online_hard_example_mining,
)
from smalti.settings import from_json, override, to_json

CLASSES = 5
LOSSES = [cross_entropy, focal, online_hard_example_mining, dice, jaccard, lovasz_softmax]
EVERYTHING = SemanticLoss(
    cross_entropy=1.0, focal=0.5, dice=2.0, jaccard=0.3, lovasz=0.7, ohem=0.2, label_smoothing=0.1
)


@pytest.fixture
def batch():
    """Two pictures, class 3 absent, ignored pixels; class 4 is predicted badly."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.tensor([0, 1, 2, 4, 255])[torch.randint(0, 5, (2, 9, 13), generator=generator)]
    logits = 2 * torch.randn(2, CLASSES, 9, 13, generator=generator)
    logits.scatter_add_(1, labels.clamp_max(2)[:, None], torch.full((2, 1, 9, 13), 2.0))
    return logits.requires_grad_(), labels


@pytest.fixture
def as_users_run_it():
    """Without the checks of annotations that would answer before our own errors."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


def gradient(loss, logits):
    return torch.autograd.grad(loss, logits)[0]


def logits_of(probabilities):
    """Rows of class probabilities of single pixels -> logits [1, classes, 1, pixels]."""
    return torch.tensor(probabilities).log().T[None, :, None]


def labels_of(*labels):
    return torch.tensor(labels)[None, None]


# --- what all have in common


@pytest.mark.parametrize("loss", [*LOSSES, EVERYTHING])
def test_all_ignored_is_zero_with_a_zero_gradient(loss, batch):
    logits, labels = batch
    value = loss(logits, torch.full_like(labels, 255))
    assert value.shape == ()
    assert value.item() == 0
    assert value.requires_grad
    assert torch.equal(gradient(value, logits), torch.zeros_like(logits))


@pytest.mark.parametrize("loss", [*LOSSES, EVERYTHING])
def test_ignored_pixels_have_no_gradient_and_no_influence(loss, batch):
    logits, labels = batch
    slope = gradient(loss(logits, labels), logits)
    ignored = (labels == 255)[:, None].expand_as(slope)
    assert torch.equal(slope[ignored], torch.zeros(int(ignored.sum())))
    assert slope[~ignored].abs().sum() > 0
    assert torch.isfinite(slope).all()
    changed = torch.where(ignored, 50 - logits, logits)
    assert loss(changed, labels).item() == pytest.approx(loss(logits, labels).item(), rel=1e-6)


@pytest.mark.parametrize("loss", [*LOSSES, EVERYTHING])
def test_bfloat16_logits_are_judged_in_float32(loss, batch):
    logits, labels = batch
    half = logits.detach().bfloat16().contiguous(memory_format=torch.channels_last).requires_grad_()
    full = half.detach().float().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(half, labels)
    expected = loss(full, labels)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)
    torch.testing.assert_close(gradient(value, half), gradient(expected, full).bfloat16())


@pytest.mark.parametrize("loss", [*LOSSES, EVERYTHING])
def test_gradient_is_the_slope(loss):
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 3, 2, 3, generator=generator, dtype=torch.float64).requires_grad_()
    labels = torch.tensor([0, 2, 255])[torch.randint(0, 3, (2, 2, 3), generator=generator)]
    assert torch.autograd.gradcheck(lambda x: loss(x, labels), logits)


@pytest.mark.parametrize("loss", LOSSES)
def test_perfect_and_wrong_predictions(loss):
    labels = labels_of(0, 1, 2, 2, 1)
    sure = 40 * F.one_hot(labels, 3).permute(0, 3, 1, 2).float()
    assert loss(sure, labels).item() == pytest.approx(0, abs=1e-6)
    wrong = loss(sure, (labels + 1) % 3).item()
    expected = 1 if loss in (dice, jaccard, lovasz_softmax) else 40
    assert wrong == pytest.approx(expected, rel=1e-5)


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("loss", LOSSES)
def test_sizes_must_agree(loss, batch):
    logits, labels = batch
    with pytest.raises(ValueError, match="resize the logits"):
        loss(logits, labels[:, ::2])


# --- cross-entropy, focal, OHEM


@pytest.mark.parametrize("weights", [None, (1.0, 0.5, 2.0, 3.0, 0.1)])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_is_that_of_torch(batch, weights, smoothing):
    logits, labels = batch
    weights = None if weights is None else torch.tensor(weights)
    ours = cross_entropy(logits, labels, weights, label_smoothing=smoothing)
    theirs = F.cross_entropy(logits, labels, weights, ignore_index=255, label_smoothing=smoothing)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(gradient(ours, logits), gradient(theirs, logits))


def test_pixel_weights_divide_by_the_number_of_counted_pixels():
    logits = logits_of([[0.5, 0.5], [0.25, 0.75], [0.1, 0.9]])
    labels = labels_of(0, 0, 255)
    pixel_weights = torch.tensor([[[2.0, 3.0, 100.0]]])
    expected = (2 * math.log(2) + 3 * math.log(4)) / 2
    assert cross_entropy(logits, labels, pixel_weights=pixel_weights).item() == pytest.approx(expected)


def test_pixel_weights_and_class_weights_divide_by_the_class_weights():
    logits = logits_of([[0.5, 0.5], [0.25, 0.75]])
    value = cross_entropy(logits, labels_of(0, 1), torch.tensor([3.0, 1.0]), torch.tensor([[[2.0, 1.0]]]))
    assert value.item() == pytest.approx((2 * 3 * math.log(2) + 1 * 1 * -math.log(0.75)) / (3 + 1))


def test_classes_of_weight_zero_alone_cost_nothing():
    logits = logits_of([[0.5, 0.5]]).requires_grad_()
    value = cross_entropy(logits, labels_of(0), torch.tensor([0.0, 1.0]))
    assert value.item() == 0
    assert torch.equal(gradient(value, logits), torch.zeros_like(logits))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 3.5])
def test_focal_is_that_of_smp(batch, gamma):
    logits, labels = batch
    counted = labels != 255
    rows = logits.movedim(1, -1)[counted]
    ours = focal(logits, labels, gamma)
    theirs = softmax_focal_loss_with_logits(rows, labels[counted], gamma=gamma)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(gradient(ours, logits), gradient(theirs, logits))


def test_focal_by_hand():
    logits = logits_of([[0.8, 0.2], [0.8, 0.2]])
    value = focal(logits, labels_of(0, 1), gamma=2.0, class_weights=torch.tensor([1.0, 3.0]))
    assert value.item() == pytest.approx((0.04 * -math.log(0.8) + 3 * 0.64 * -math.log(0.2)) / 4, rel=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_of_a_certain_pixel_has_a_finite_gradient(gamma):
    logits = torch.tensor([500.0, 0.0]).view(1, 2, 1, 1).requires_grad_()
    assert torch.isfinite(gradient(focal(logits, labels_of(0), gamma), logits)).all()


@pytest.mark.parametrize("keep", [0.0, 0.01, 0.25, 0.6, 1.0])
@pytest.mark.parametrize("threshold", [0.05, 0.7, 1.0])
@pytest.mark.parametrize("weights", [None, (1.0, 0.5, 2.0, 3.0, 0.1)])
def test_hard_examples_by_a_slow_loop(batch, keep, threshold, weights):
    logits, labels = batch
    weights = None if weights is None else torch.tensor(weights)
    logs = logits.log_softmax(1)
    places = [tuple(place) for place in (labels != 255).nonzero().tolist()]
    pixels = [(-logs[b, labels[b, y, x], y, x], int(labels[b, y, x])) for b, y, x in places]
    pixels.sort(key=lambda pixel: -pixel[0].item())
    kept = [
        (loss, 1.0 if weights is None else weights[label])
        for rank, (loss, label) in enumerate(pixels)
        if rank < keep * len(pixels) or loss > -math.log(threshold)
    ]
    expected = sum(loss * weight for loss, weight in kept) / sum(weight for _, weight in kept) if kept else None
    ours = online_hard_example_mining(logits, labels, keep, threshold, weights)
    if expected is None:
        assert ours.item() == 0
    else:
        torch.testing.assert_close(ours, expected)
        torch.testing.assert_close(gradient(ours, logits), gradient(expected, logits))


def test_hard_examples_that_tie_are_all_kept():
    logits = logits_of([[0.9, 0.1], [0.95, 0.05], [0.9, 0.1], [0.99, 0.01]])
    value = online_hard_example_mining(logits, labels_of(0, 0, 0, 0), keep=0.25, threshold=0.5)
    assert value.item() == pytest.approx(-math.log(0.9), rel=1e-5)
    half = online_hard_example_mining(logits, labels_of(0, 0, 0, 0), keep=0.75, threshold=0.5)
    assert half.item() == pytest.approx((-2 * math.log(0.9) - math.log(0.95)) / 3, rel=1e-5)


# --- regions


@pytest.mark.parametrize(("ours", "theirs"), [(dice, DiceLoss), (jaccard, JaccardLoss)])
def test_regions_are_those_of_smp(batch, ours, theirs):
    logits, labels = batch
    if theirs is JaccardLoss:  # it knows no ignored pixels: one long picture of the counted ones
        counted = labels != 255
        expected = theirs("multiclass")(logits.movedim(1, -1)[counted].T[None, :, None], labels[counted][None, None])
    else:
        expected = theirs("multiclass", ignore_index=255)(logits, labels)
    expected = expected * CLASSES / 4  # its mean counts the absent class as 0
    value = ours(logits, labels)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient(value, logits), gradient(expected, logits))


def test_regions_by_hand():
    logits = logits_of([[0.75, 0.25, 1e-9], [0.5, 0.5, 1e-9]])
    labels = labels_of(0, 1)
    # I = 0.75 and 0.5, P = 1.25 and 0.75, T = 1 and 1; class 2 is absent.
    assert dice(logits, labels).item() == pytest.approx(1 - (1.5 / 2.25 + 1 / 1.75) / 2)
    assert dice(logits, labels, smooth=1.0).item() == pytest.approx(1 - (2.5 / 3.25 + 2 / 2.75) / 2)
    assert jaccard(logits, labels).item() == pytest.approx(1 - (0.75 / 1.5 + 0.5 / 1.25) / 2)
    assert jaccard(logits, labels, smooth=1.0).item() == pytest.approx(1 - (1.75 / 2.5 + 1.5 / 2.25) / 2)


def test_predicting_an_absent_class_costs_only_what_the_present_ones_lose():
    value = dice(logits_of([[0.6, 0.4], [0.6, 0.4]]), labels_of(0, 0))
    assert value.item() == pytest.approx(1 - 2 * 1.2 / (1.2 + 2))


def lovasz_by_definition(logits, labels):
    """The highest value over all orders of the pixels: so the extension of a submodular set function is defined."""
    probabilities = logits.softmax(1)[0, :, 0].T.tolist()
    labels = labels.flatten().tolist()
    losses = []
    for c in sorted(set(labels)):
        own = {i for i, label in enumerate(labels) if label == c}
        errors = [1 - p[c] if i in own else p[c] for i, p in enumerate(probabilities)]

        def jaccard_loss(wrong, own=own):
            return 1 - len(own - wrong) / len(own | wrong)

        def along(order, errors=errors, jaccard_loss=jaccard_loss):
            steps = (jaccard_loss(set(order[: n + 1])) - jaccard_loss(set(order[:n])) for n in range(len(order)))
            return sum(errors[i] * step for i, step in zip(order, steps, strict=True))

        losses.append(max(along(order) for order in itertools.permutations(range(len(labels)))))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("seed", range(4))
def test_lovasz_by_definition(seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(1, 3, 1, 6, generator=generator)
    labels = torch.randint(0, 2, (1, 1, 6), generator=generator)
    # With so many buckets no two errors share one.
    value = lovasz_softmax(logits, labels, buckets=2**16)
    assert value.item() == pytest.approx(lovasz_by_definition(logits, labels), rel=1e-5)


@pytest.mark.parametrize(("buckets", "near"), [(2, 0.1), (16, 5e-3), (1024, 1e-4), (2**18, 1e-6)])
def test_lovasz_is_that_of_smp_up_to_its_buckets(batch, buckets, near):
    logits, labels = batch
    theirs = LovaszLoss("multiclass", ignore_index=255)(logits, labels)
    ours = lovasz_softmax(logits, labels, buckets)
    assert abs(ours - theirs).item() < min(1 / buckets, near)
    if buckets == 2**18:  # errors in one bucket share their slope
        torch.testing.assert_close(gradient(ours, logits), gradient(theirs, logits))


def test_lovasz_never_leaves_its_bound_where_all_share_a_bucket():
    # Errors of one bucket, those of the other class last: sorting and counting weigh them as differently as they can.
    logits = logits_of([[0.51, 0.49]] * 3 + [[0.74, 0.26]] * 3)
    labels = labels_of(1, 1, 1, 0, 0, 0)
    exact = LovaszLoss("multiclass")(logits, labels)
    assert abs(lovasz_softmax(logits, labels, buckets=4) - exact).item() <= 1 / 4
    assert lovasz_softmax(logits, labels, buckets=64).item() == pytest.approx(exact.item(), rel=1e-5)


# --- the sum


def test_sum_of_all_losses_is_weighted(batch):
    logits, labels = batch
    weights = (1.0, 0.5, 2.0, 3.0, 0.1)
    tensor = torch.tensor(weights)
    value = dataclasses.replace(EVERYTHING, class_weights=weights, focal_gamma=1.5, ohem_keep=0.1, ohem_threshold=0.4)(
        logits, labels
    )
    expected = (
        cross_entropy(logits, labels, tensor, label_smoothing=0.1)
        + 0.5 * focal(logits, labels, 1.5, tensor)
        + 2 * dice(logits, labels)
        + 0.3 * jaccard(logits, labels)
        + 0.7 * lovasz_softmax(logits, labels)
        + 0.2 * online_hard_example_mining(logits, labels, 0.1, 0.4, tensor)
    )
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient(value, logits), gradient(expected, logits))


def test_default_is_plain_cross_entropy(batch):
    logits, labels = batch
    torch.testing.assert_close(SemanticLoss()(logits, labels), F.cross_entropy(logits, labels, ignore_index=255))


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"dice": -1.0}, "weight of dice"),
        ({"lovasz": math.nan}, "weight of lovasz"),
        ({"cross_entropy": 0.0}, "all losses have weight 0"),
        ({"class_weights": "sqrt"}, "median_frequency"),
        ({"class_weights": [1.0, 2.0]}, "a tuple of numbers"),
        ({"class_weights": (1.0, -2.0)}, ">= 0"),
        ({"class_weights": (1.0, math.inf)}, ">= 0"),
        ({"class_weights": (0.0, 0.0)}, "not all of them 0"),
        ({"class_weights": ()}, "not all of them 0"),
        ({"focal_gamma": -1.0}, "focal_gamma"),
        ({"ohem_keep": 1.5}, "ohem_keep"),
        ({"ohem_threshold": 0.0}, "ohem_threshold"),
        ({"label_smoothing": 1.0}, "label_smoothing"),
    ],
)
def test_impossible_settings(settings, problem):
    with pytest.raises(ValueError, match=problem):
        SemanticLoss(**settings)


def test_class_weights_must_be_numbers_one_a_class(batch):
    with pytest.raises(ValueError, match=r"call resolved"):
        SemanticLoss(class_weights="log")(*batch)
    with pytest.raises(ValueError, match="3 class weights for logits of 5 classes"):
        SemanticLoss(class_weights=(1.0, 2.0, 3.0))(*batch)


def test_median_frequency_by_hand():
    loss = SemanticLoss(class_weights="median_frequency", dice=1.0)
    # Shares 0.1, 0.6, 0.3; the median is 0.3.
    assert loss.resolved([10, 60, 0, 30]).class_weights == pytest.approx((3.0, 0.5, 0.0, 1.0))
    assert loss.resolved([10, 30, 60, 100]).class_weights == pytest.approx((4.5, 1.5, 0.75, 0.45))
    # Frequencies 0.1, 0.6 and 0.5 (of the 60 pixels of the pictures that have it).
    assert loss.resolved([10, 60, 30], [100, 100, 60]).class_weights == pytest.approx((5.0, 5 / 6, 1.0))
    assert loss.resolved([1, 1]) == dataclasses.replace(loss, class_weights=(1.0, 1.0))


def test_log_weights_by_hand():
    weights = SemanticLoss(class_weights="log").resolved([900, 100, 0]).class_weights
    rare, often = 1 / math.log(1.12), 1 / math.log(1.92)
    assert weights == pytest.approx((often / ((rare + often) / 2), rare / ((rare + often) / 2), 0.0))
    assert sum(weights) == pytest.approx(2)


def test_resolving_what_needs_no_rule():
    assert SemanticLoss().resolved([1, 2]) == SemanticLoss()
    numbers = SemanticLoss(class_weights=(1.0, 2.0))
    assert numbers.resolved([5, 5]) is numbers
    with pytest.raises(ValueError, match="2 class weights for 3 classes"):
        numbers.resolved([5, 5, 5])


@pytest.mark.parametrize("counts", [[], [0, 0], [3, -1]])
def test_resolving_without_pixels(counts):
    with pytest.raises(ValueError, match="needs the pixels of each class"):
        SemanticLoss(class_weights="log").resolved(counts)


@pytest.mark.parametrize("weights", [None, "log", (1.0, 0.5)])
def test_settings_go_through_json_and_text(weights):
    loss = SemanticLoss(dice=0.5, class_weights=weights)
    assert from_json(json.loads(json.dumps(to_json(loss))), SemanticLoss) == loss
    assert override(SemanticLoss(), {"class_weights": "1,2.5", "lovasz": "0.5"}) == SemanticLoss(
        class_weights=(1.0, 2.5), lovasz=0.5
    )
