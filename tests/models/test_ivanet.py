"""IvaNet beyond the contract of all models: spec 3.9 (I1 to I10)."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import batched_nms, box_iou

from smalti.containers import Frame, Instances, Outputs, Targets
from smalti.labels import VOC, LabelSet
from smalti.models.create import create_model, find_recipe
from smalti.models.ivanet import REPORTED, to_picture
from smalti.parts.boxes.anchors import default_boxes, levels
from smalti.parts.boxes.matching import corners, decode_boxes, encode_boxes, match_boxes
from smalti.parts.boxes.select import Detection, select_boxes
from smalti.parts.convolution import convolve_resized
from smalti.parts.decoders.top_down import TopDown
from smalti.parts.losses.box import box_loss

COCO = LabelSet(names=tuple(f"c{k}" for k in range(81)), things=frozenset(f"c{k}" for k in range(1, 81)))
SIZES = {300: (38, 19, 10, 5, 3, 1), 512: (64, 32, 16, 8, 4, 2, 1)}


def count(module):
    return sum(p.numel() for p in module.parameters())


def make(labels=VOC, **config):
    with torch.device("meta"):
        return create_model("ivanet", classes=labels, **config)


def pixels_head(model):
    return nn.ModuleList([model.context, model.classify])


def test_i1_parameters():
    model = make()
    assert count(model) == 44_570_329
    parts = (model.encoder, model.extras, model.top_down, model.box_head, pixels_head(model))
    assert [count(part) for part in parts] == [23_508_032, 3_017_728, 9_575_936, 3_111_300, 5_357_333]
    large = make(size=512)
    assert count(large) == 48_532_591
    parts = (large.extras, large.top_down, large.box_head, pixels_head(large))
    assert [count(part) for part in parts] == [4_329_984, 10_822_656, 3_629_850, 6_242_069]
    coco = make(COCO)
    assert (count(coco), count(coco.box_head), count(pixels_head(coco))) == (52_175_749, 10_578_420, 5_495_633)
    assert [count(make(anchors="ssd", size=s).box_head) for s in (300, 512)] == [2_592_750, 3_111_300]


@pytest.mark.parametrize(("layout", "size", "boxes"), [
    ("blitz", 300, 11_640), ("blitz", 512, 32_766), ("ssd", 300, 8_732), ("ssd", 512, 24_564),
])  # fmt: skip
def test_i2_boxes_and_maps(layout, size, boxes):
    model = make(anchors=layout, size=size)
    assert model.default_boxes((size, size)).shape == (boxes, 4)
    seen = []
    model.top_down.register_forward_hook(lambda _, inputs, maps: seen.extend(maps))
    outputs = model(torch.zeros(1, 3, size, size, dtype=torch.uint8, device="meta"))
    assert outputs.box_logits.shape == (1, boxes, 21)
    assert outputs.box_offsets.shape == (1, boxes, 4)
    assert outputs.semantic.shape == (1, 21, size, size)
    assert [tuple(m.shape) for m in seen] == [(1, 384, n, n) for n in SIZES[size]]


@pytest.mark.parametrize("size", [(1, 1), (37, 53), (300, 500), (512, 512), (65, 640)])
def test_boxes_follow_pictures_of_any_size(size):
    model = make(encoder="resnet10t", width=16).eval()
    outputs = model(torch.zeros(1, 3, *size, dtype=torch.uint8, device="meta"))
    assert outputs.box_logits.shape[1] == len(model.default_boxes(size))
    assert outputs.semantic.shape[-2:] == size


@pytest.mark.parametrize(("path", "reached"), [("local", 3), ("one", 2), ("none", 1), ("full", 6)])
def test_i3_locality(path, reached):
    torch.manual_seed(0)
    module = TopDown((6, 7, 8, 5, 5, 5), path=path, middle=4, width=9).eval()
    maps = [torch.randn(1, c, n, n, requires_grad=True) for c, n in zip((6, 7, 8, 5, 5, 5), SIZES[300], strict=True)]
    module(maps)[0].square().sum().backward()
    touched = [m.grad is not None and bool(m.grad.abs().max() > 0) for m in maps]
    assert touched == [k < reached for k in range(6)]


def test_deconvolutions_are_those_with_padding():
    for coarse, fine in ((19, 38), (10, 19), (5, 10), (3, 5), (1, 3), (2, 4), (1, 2)):
        module = TopDown((2, 3), path="one", middle=2, width=2).eval()
        seen = []
        module.smooth[0].register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0]))
        x = torch.randn(1, 3, coarse, coarse)
        module([torch.randn(1, 2, fine, fine), x])
        deconv = module.up[0]
        padding = 1 if fine in (2 * coarse - 1, 2 * coarse) else 0
        more = fine - ((coarse - 1) * 2 - 2 * padding + 3)
        expected = F.conv_transpose2d(x, deconv.weight, deconv.bias, 2, padding, more)
        assert torch.equal(seen[0], expected), (coarse, fine)


def test_i4_first_boxes():
    ssd = default_boxes(levels("ssd", 300), tuple((n, n) for n in SIZES[300]))
    assert ssd[0].tolist() == pytest.approx([0.013333, 0.013333, 0.1, 0.1], abs=1e-6)
    assert ssd[1, 2:].tolist() == pytest.approx([0.141421] * 2, abs=1e-6)
    blitz = default_boxes(levels("blitz", 300), tuple((n, n) for n in SIZES[300]))
    assert blitz[0].tolist() == pytest.approx([1 / 76, 1 / 76, 0.1, 0.1], abs=1e-6)
    assert blitz[6, :2].tolist() == pytest.approx([3 / 76, 1 / 76], abs=1e-6)  # the next column comes next
    assert blitz[2, 2:].tolist() == pytest.approx([0.1 * math.sqrt(2), 0.1 / math.sqrt(2)], abs=1e-6)


def test_i5_encoding():
    prior = torch.tensor([0.5, 0.5, 0.2, 0.1])
    box = corners(torch.tensor([0.52, 0.49, 0.2 * math.exp(0.2), 0.1 * math.exp(-0.4)]))
    torch.testing.assert_close(encode_boxes(box, prior), torch.tensor([1.0, -1, 1, -2]), atol=1e-5, rtol=0)
    boxes = corners(torch.rand(50, 4) * 0.5 + 0.1)
    priors = torch.rand(50, 4) * 0.5 + 0.1
    torch.testing.assert_close(decode_boxes(encode_boxes(boxes, priors), priors), boxes, atol=1e-6, rtol=0)


def test_i6_each_object_has_a_box():
    priors = torch.tensor([[0.25, 0.25, 0.5, 0.5], [0.75, 0.75, 0.5, 0.5], [0.3, 0.3, 0.4, 0.4]])
    tiny = torch.tensor([[[0.2, 0.2, 0.21, 0.21]]])
    assert sorted(match_boxes(priors, tiny, torch.ones(1, 1, dtype=torch.bool))[0].tolist()) == [-1, -1, 0]
    same = torch.tensor([[[0.0, 0.0, 0.5, 0.5], [0.0, 0.0, 0.5, 0.49]]])
    owner = match_boxes(priors, same, torch.ones(1, 2, dtype=torch.bool))
    assert owner[0].tolist() == [0, -1, 1]  # the lower index wins, the other takes its next best
    none = match_boxes(priors, same, torch.zeros(1, 2, dtype=torch.bool))
    assert none[0].tolist() == [-1, -1, -1]


def test_i6_matching_is_that_of_a_slow_loop():
    generator = torch.Generator().manual_seed(0)
    priors = default_boxes(levels("blitz", 300), tuple((n, n) for n in SIZES[300]))
    low = torch.rand(4, 7, 2, generator=generator) * 0.7
    objects = torch.cat([low, low + 0.02 + torch.rand(4, 7, 2, generator=generator) * 0.28], -1)
    there = torch.rand(4, 7, generator=generator) < 0.8
    found = match_boxes(priors, objects, there)
    for k in range(4):
        iou = box_iou(objects[k], corners(priors))
        iou[~there[k]] = -1
        best, owner = iou.max(0)
        owner[best < 0.5] = -1
        free = iou.clone()
        for j in range(7):
            if there[k, j]:
                place = int(free[j].argmax())
                owner[place], free[:, place] = j, -2
        assert torch.equal(found[k], owner)


def test_i7_hardest_background():
    torch.manual_seed(0)
    logits, offsets = torch.randn(2, 50, 4, requires_grad=True), torch.randn(2, 50, 4, requires_grad=True)
    classes = torch.zeros(2, 50, dtype=torch.int64)
    classes[0, :3], classes[1, :20] = torch.tensor([1, 2, 3]), 1
    known = torch.ones(2, 50, dtype=torch.bool)
    surprise, distance = box_loss(logits, offsets, classes, torch.zeros(23, 4), known)
    surprise.backward()
    counted = logits.grad.abs().sum(-1) > 0
    assert counted.sum(1).tolist() == [3 + 9, 20 + 30]  # three times as many, or all that there are
    each = F.cross_entropy(logits.detach().flatten(0, 1), classes.flatten(), reduction="none").view(2, 50)
    expected = each[0, :3].sum() + each[0, 3:].topk(9).values.sum() + each[1].sum()
    torch.testing.assert_close(surprise, expected / 23)
    by_hand = F.smooth_l1_loss(offsets[0, :3], torch.zeros(3, 4), reduction="sum") + F.smooth_l1_loss(
        offsets[1, :20], torch.zeros(20, 4), reduction="sum"
    )
    torch.testing.assert_close(distance, by_hand / 23)


def test_i7_without_objects_or_without_truth():
    logits, offsets = torch.randn(2, 9, 4, requires_grad=True), torch.randn(2, 9, 4, requires_grad=True)
    classes = torch.zeros(2, 9, dtype=torch.int64)
    nothing = box_loss(logits, offsets, classes, torch.zeros(0, 4), torch.ones(2, 9, dtype=torch.bool))
    assert [v.item() for v in nothing] == [0, 0]
    sum(nothing).backward()
    assert logits.grad.abs().max() == 0
    classes[0, 0] = 1
    one = box_loss(logits, offsets, classes, torch.zeros(1, 4), torch.tensor([[True], [False]]).expand(2, 9))
    alone = box_loss(logits[:1], offsets[:1], classes[:1], torch.zeros(1, 4), torch.ones(1, 9, dtype=torch.bool))
    torch.testing.assert_close(one, alone)


def test_pyramid_context_is_the_convolution_of_the_concatenation():
    torch.manual_seed(0)
    maps = [torch.randn(2, 3, n, m, dtype=torch.float64) for n, m in ((9, 13), (5, 7), (3, 4), (1, 1), (9, 13))]
    weight = torch.randn(4, 15, 3, 3, dtype=torch.float64)
    resized = [F.interpolate(m, (9, 13), mode="bilinear", align_corners=False) for m in maps]
    expected = F.conv2d(torch.cat(resized, 1), weight, padding=1)
    torch.testing.assert_close(convolve_resized(weight, maps, (9, 13)), expected, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(convolve_resized(weight[:, :3], maps[1:2], (9, 13)),
                               F.conv2d(resized[1], weight[:, :3], padding=1), atol=1e-12, rtol=1e-12)  # fmt: skip


def perfect(model, objects, size):
    """Outputs that say exactly where the objects are."""
    defaults = model.default_boxes(size)
    share = torch.tensor([size[1], size[0]] * 2)
    boxes, labels = objects
    owner = match_boxes(defaults, boxes[None] / share, torch.ones(1, len(boxes), dtype=torch.bool))[0]
    logits = torch.zeros(1, len(defaults), 1 + len(model.things))
    logits[..., 0] = 12.0
    here = owner >= 0
    logits[0, here, 0] = 0.0
    logits[0, here, 1 + torch.tensor([model.things.index(int(k)) for k in labels[owner[here]]])] = 12.0
    offsets = encode_boxes((boxes / share)[owner.clamp(min=0)], defaults)
    return Outputs(box_logits=logits, box_offsets=offsets[None])


def test_decoding_gives_back_the_objects():
    torch.manual_seed(0)
    model = create_model("ivanet", classes=VOC, encoder="resnet10t", width=16, tasks=("boxes",)).eval()
    boxes = torch.tensor([[10.0, 20, 90, 130], [150, 30, 290, 280], [5, 5, 40, 30]])
    labels = torch.tensor([7, 15, 7])
    outputs = perfect(model, (boxes, labels), (300, 300))
    (found,) = model.decode(outputs, [Frame.whole((300, 300))])
    order = found.instances.boxes[:, 0].argsort()
    torch.testing.assert_close(found.instances.boxes[order], boxes[boxes[:, 0].argsort()], atol=1e-3, rtol=0)
    assert sorted(found.instances.labels.tolist()) == [7, 7, 15]
    assert found.semantic is None
    stretched = Frame(original=(600, 150), resized=(300, 300), padded=(300, 300))
    (wide,) = model.decode(outputs, [stretched])
    torch.testing.assert_close(wide.instances.boxes, found.instances.boxes * torch.tensor([0.5, 2, 0.5, 2]))


def test_boxes_in_the_pictures_pixels():
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.25, 0.5, 0.5, 0.75]])
    padded = to_picture(boxes, Frame(original=(50, 100), resized=(100, 200), padded=(128, 256)))
    assert padded.tolist() == [[0, 0, 100, 50], [32, 32, 64, 48]]
    within = Frame(original=(40, 60), resized=(96, 96), padded=(96, 96), cropped=True)
    assert to_picture(boxes / 2, within)[1].tolist() == [12, 24, 24, 36]  # a picture smaller than the crop: its corner
    cut = to_picture(boxes, Frame(original=(100, 200), resized=(50, 100), padded=(50, 100), cropped=True))
    assert cut.tolist() == [[50, 25, 150, 75], [75, 50, 100, 62.5]]


def test_a_class_never_fills_the_answer_by_itself():
    model = create_model("ivanet", classes=VOC, encoder="resnet10t", width=16, tasks=("boxes",)).eval()
    logits = torch.zeros(1, 11640, 21)
    logits[..., 5] = 6.0
    logits[..., 9] = 5.0
    (answer,) = model.decode(
        Outputs(box_logits=logits, box_offsets=torch.zeros(1, 11640, 4)), [Frame.whole((300, 300))]
    )
    assert 0 < (answer.instances.labels == model.things[4]).sum() <= 50
    assert len(answer.instances) <= 200


def test_pictures_with_and_without_truth_in_one_batch():
    """What is missing costs nothing: the loss is that of what is there."""
    torch.manual_seed(0)
    model = create_model("ivanet", classes=VOC, encoder="resnet10t", width=16).eval()
    pictures = torch.randint(0, 256, (2, 3, 96, 96), dtype=torch.uint8)
    labels = torch.randint(0, 21, (2, 96, 96))
    labels[1] = 255
    one = Instances(boxes=torch.tensor([[10.0, 10, 60, 70]]), labels=torch.tensor([12]))
    targets = Targets(semantic=labels, instances=(None, one), padding=torch.zeros(2, 96, 96, dtype=torch.bool))
    outputs = model(pictures)
    both = model.loss(outputs, targets)
    pixels = model.loss(outputs._replace(semantic=outputs.semantic[:1], box_logits=None), Targets(semantic=labels[:1]))
    torch.testing.assert_close(both["semantic"], pixels["semantic"])
    assert both["box_classes"] > 0
    nothing = Targets(semantic=torch.full((2, 96, 96), 255), instances=(None, None), padding=targets.padding)
    assert all(term.item() == 0 for term in model.loss(outputs, nothing).values())


@pytest.mark.parametrize("size", [(96, 96), (192, 256), (600, 600), (300, 300)])
@pytest.mark.parametrize("layout", ["blitz", "ssd", "ssd_coco"])
def test_centres_are_spread_over_pictures_of_any_size(size, layout):
    defaults = make(anchors=layout).default_boxes(size)
    first = defaults[: -(-size[0] // 8) * -(-size[1] // 8) * levels(layout, 300)[0].count]
    for axis, length in enumerate((size[1], size[0])):
        centres = first[:, axis].unique()
        cells = -(-length // 8)
        assert len(centres) == cells
        expected = (torch.arange(cells) + 0.5) / cells
        assert (centres - expected).abs().max() < 0.02  # SSD's own steps are a little beside the cells'


def test_ssds_boxes_for_coco_are_smaller():
    assert levels("ssd_coco", 300)[0].scale == pytest.approx(21 / 300)
    with pytest.raises(ValueError, match="is for size=300"):
        make(anchors="ssd_coco", size=512)


def test_encoders_that_round_down_are_named():
    model = create_model("ivanet", classes=VOC, encoder="vgg11", width=16, tasks=("boxes",)).eval()
    with torch.inference_mode():
        odd = model(torch.zeros(1, 3, 90, 90, dtype=torch.uint8))
        with pytest.raises(ValueError, match=r"the maps of vgg11 at 90x90 .*multiples of 32"):
            model.decode(odd, [Frame.whole((90, 90))])
        even = model(torch.zeros(1, 3, 96, 96, dtype=torch.uint8))
        assert model.decode(even, [Frame.whole((96, 96))])[0].instances is not None


def test_i9_targets_follow_a_mirror_image():
    """Boxes mirrored match mirrored default boxes, with mirrored offsets."""
    model = make(tasks=("boxes",))
    defaults = model.default_boxes((300, 300))
    objects = torch.tensor([[[0.1, 0.2, 0.4, 0.6], [0.55, 0.3, 0.9, 0.95]]])
    there = torch.ones(1, 2, dtype=torch.bool)
    mirrored = torch.stack([1 - objects[..., 2], objects[..., 1], 1 - objects[..., 0], objects[..., 3]], -1)
    owner, turned = (match_boxes(defaults, boxes, there)[0] for boxes in (objects, mirrored))
    flipped = defaults.clone()
    flipped[:, 0] = 1 - flipped[:, 0]
    places = torch.cdist(flipped.double(), defaults.double()).argmin(1)  # where each one's mirror image is
    assert (owner >= 0).sum() > 10
    assert torch.equal(turned[places], owner)
    one, other = (
        encode_boxes(boxes[0][o.clamp(min=0)], defaults) for boxes, o in ((objects, owner), (mirrored, turned))
    )
    matched = owner >= 0
    expected = one[matched] * torch.tensor([-1, 1, 1, 1])
    torch.testing.assert_close(other[places][matched], expected, atol=1e-4, rtol=0)


def test_crowds_are_neither_learned_nor_background():
    """A crowd gets no box, and boxes of which half lies in it count in no loss."""
    torch.manual_seed(0)
    model = create_model("ivanet", classes=VOC, encoder="resnet10t", width=16, tasks=("boxes",)).eval()
    one = Instances(
        boxes=torch.tensor([[4.0, 4, 40, 40], [48.0, 0, 96, 96]]), labels=torch.tensor([12, 15]),
        crowd=torch.tensor([False, True]),
    )  # fmt: skip
    defaults = corners(model.default_boxes((96, 96)))
    targets = Targets(instances=(one,), padding=torch.zeros(1, 96, 96, dtype=torch.bool))
    logits, offsets = torch.zeros(1, len(defaults), 21, requires_grad=True), torch.zeros(1, len(defaults), 4)
    sum(model.loss(Outputs(box_logits=logits, box_offsets=offsets), targets).values()).backward()
    inside = (defaults[:, 2].clamp(max=1) - defaults[:, 0].clamp(min=0.5)).clamp(min=0)
    inside = inside * (defaults[:, 3].clamp(max=1) - defaults[:, 1].clamp(min=0)).clamp(min=0)
    within = inside >= 0.5 * (defaults[:, 2:] - defaults[:, :2]).prod(1)
    counted = logits.grad[0].abs().sum(-1) > 0
    positive = logits.grad[0, :, model.things.index(12) + 1] < 0
    assert positive.sum() > 0
    assert not (counted & within & ~positive).any()
    hardest = torch.zeros(1, len(defaults), 21)
    hardest[0, within, model.things.index(15) + 1] = 9.0  # as sure of the crowd's class as can be: no loss from there
    there = model.loss(Outputs(box_logits=hardest, box_offsets=offsets), targets)
    assert there["box_classes"] < 4 * math.log(21) + 1e-3


@pytest.mark.parametrize("sharpness", [1.0, 4.0])
def test_selecting_boxes_class_by_class_is_batched_suppression(sharpness):
    torch.manual_seed(0)
    rules = Detection()
    probabilities = (sharpness * torch.randn(3000, 8)).softmax(-1).T.contiguous()
    low = torch.rand(3000, 2) * 200
    boxes = torch.cat([low, low + 10 + torch.rand(3000, 2) * 90], 1)
    best, places = probabilities.topk(rules.candidates, dim=1)
    kinds, rank = (best > rules.confidence).nonzero(as_tuple=True)
    best, places = best[kinds, rank], places[kinds, rank]
    kept = batched_nms(boxes[places], best, kinds, rules.overlap)
    earlier = F.one_hot(kinds[kept], 8).cumsum(0).gather(1, kinds[kept, None])[:, 0]
    kept = kept[earlier <= rules.each_class][: rules.total]
    found, classes = select_boxes(boxes, probabilities, rules)
    assert torch.equal(found, places[kept])
    assert torch.equal(classes, kinds[kept])


def test_nothing_probable_is_nothing_found():
    found, classes = select_boxes(torch.rand(9, 4), torch.full((3, 9), 0.005), Detection())
    assert len(found) == len(classes) == 0


@pytest.mark.parametrize(("rules", "message"), [
    ({"confidence": 2.0}, "confidence and overlap"), ({"total": 0}, "must be 1 or more"),
])  # fmt: skip
def test_rules_of_detection_are_checked(rules, message):
    with pytest.raises(ValueError, match=message):
        create_model("ivanet", classes=VOC, encoder="resnet10t", width=16, detection=rules)


def test_the_papers_recipes():
    recipes = {name: find_recipe(f"ivanet.{name}") for name in REPORTED}
    for recipe in recipes.values():
        assert recipe.training.learning_rate == 1e-4
        assert recipe.training.momentum == 0.5  # Adam's beta1
    small = recipes["voc2012_300"]
    assert [round(at * 65_000) for at in small.training.step_at] == [35_000, 50_000]
    assert (small.training.batch, small.training.epochs * small.training.steps_per_epoch) == (32, 65_000)
    large = find_recipe("ivanet.voc0712_512")
    assert (large.training.batch, large.training.epochs * large.training.steps_per_epoch) == (16, 75_000)
    assert (large.input.size, large.config.size) == ((512, 512), 512)
    assert recipes["coco_300"].training.epochs * recipes["coco_300"].training.steps_per_epoch == 700_000
    assert recipes["voc2012_det_300"].training.monitor == "validation_loss"


@pytest.mark.parametrize(("config", "message"), [
    ({"context": "pooling", "segmentation_stride": 4}, 'is for context="levels"'),
    ({"tasks": ()}, 'must be "boxes", "semantic" or both'),
    ({"pcm_levels": 7}, "pcm_levels must be 1 to 6"),
    ({"encoder": "vgg11"}, "maps of strides 8, 16 and 32"),
])  # fmt: skip
def test_settings_that_make_no_network(config, message):
    if config.get("encoder") == "vgg11":
        assert create_model("ivanet", classes=VOC, **config).things  # VGG has these maps
        return
    with pytest.raises(ValueError, match=message):
        create_model("ivanet", classes=VOC, **config)


def test_boxes_need_things():
    with pytest.raises(ValueError, match='"thing": true'):
        create_model("ivanet", classes=3, encoder="resnet10t")
    assert create_model("ivanet", classes=3, encoder="resnet10t", tasks=("semantic",)).things == ()
