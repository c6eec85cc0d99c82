"""Spec 2.8: S1 to S5, and what our default mode promises."""

import pytest
import torch
import torch.nn.functional as F

from smalti import create_model
from smalti.containers import Frame, Targets
from smalti.models.create import find_recipe, recipes
from smalti.parts.context.pyramid_pooling import PyramidPooling, adaptive_mean


def trainable(model):
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    ("encoder", "decoder", "classes", "expected"),
    [
        ("vgg16", "unet", 11, 12_326_219),
        ("vgg16", "unet", 12, 12_326_796),
        ("vgg16", "unet", 32, 12_338_336),
        ("vgg16", "pspnet", 11, 17_129_803),
        ("vgg16", "pspnet", 12, 17_134_412),
        ("vgg16", "pspnet", 32, 17_226_592),
        ("resnet50", "unet", 12, 16_331_404),
        ("resnet50", "pspnet", 12, 29_859_916),
    ],
)
def test_s1_parameter_counts(encoder, decoder, classes, expected):
    assert trainable(create_model("sis_cnn", classes=classes, encoder=encoder, decoder=decoder)) == expected


@pytest.mark.parametrize(
    ("decoder", "size", "head"), [("unet", (416, 608), (208, 304)), ("pspnet", (384, 576), (96, 144))]
)
def test_s2_sizes_of_paper_mode(decoder, size, head):
    model = create_model("sis_cnn", classes=12, encoder="vgg16", decoder=decoder, output_size="head").eval()
    with torch.inference_mode():
        logits = model(torch.zeros(1, 3, *size, dtype=torch.uint8)).semantic
        (answer,) = model.decode(model(torch.zeros(1, 3, *size, dtype=torch.uint8)), [Frame.whole(size)])
    assert logits.shape == (1, 12, *head)
    assert answer.semantic.shape == size
    torch.testing.assert_close(answer.probabilities.sum(0), torch.ones(size), atol=1e-5, rtol=0)


def test_s3_unet_has_no_fifth_stage():
    names = create_model("sis_cnn", classes=12, encoder="resnet50", decoder="unet").state_dict().keys()
    assert any("layer3" in n for n in names)
    assert not any("layer4" in n for n in names)
    vgg = create_model("sis_cnn", classes=12, encoder="vgg16", decoder="unet").encoder
    assert sum(p.numel() for p in vgg.parameters()) == 7_635_264  # spec 0: the convolutions to conv4_3
    assert vgg.channels == (64, 128, 256, 512)
    assert vgg.reductions == (2, 4, 8, 16)


def test_vgg_taps_are_after_the_pools():
    encoder = create_model("sis_cnn", classes=2, encoder="vgg16", decoder="pspnet").encoder.eval()
    x = torch.randn(1, 3, 64, 96)
    maps = encoder(x)
    assert [tuple(m.shape[1:]) for m in maps] == [
        (64, 32, 48), (128, 16, 24), (256, 8, 12), (512, 4, 6), (512, 2, 3),
    ]  # fmt: skip
    layers = list(encoder.network.children())[:5]  # conv, ReLU, conv, ReLU, pool
    y = x
    for layer in layers:
        y = layer(y)
    torch.testing.assert_close(maps[0], y)


def test_s4_pyramid_pooling_of_a_constant_map_is_constant():
    block = PyramidPooling(8, 6, 4).eval()
    pooled = [F.interpolate(b, (12, 18), mode="bilinear") for b in block.branches(torch.ones(1, 8, 12, 18))]
    for branch in pooled:
        torch.testing.assert_close(branch, branch[..., :1, :1].expand_as(branch))
    out = block(torch.ones(1, 8, 12, 18))
    torch.testing.assert_close(out, out[..., :1, :1].expand_as(out))


def test_s4_only_the_classifiers_border_sees_the_edge():
    model = create_model("sis_cnn", classes=3, encoder="vgg16", decoder="pspnet").eval()
    logits = model.decoder([torch.ones(1, 512, 12, 18)])
    inner = logits[..., 1:-1, 1:-1]
    torch.testing.assert_close(inner, inner[..., :1, :1].expand_as(inner), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(logits, inner[..., :1, :1].expand_as(logits), atol=1e-5)


@pytest.mark.parametrize("bins", [1, 2, 3, 6])
@pytest.mark.parametrize("size", [(12, 18), (7, 11), (5, 6), (1, 1)])
def test_s5_pooling_equals_adaptive_pooling(bins, size):
    x = torch.randn(2, 4, *size)
    torch.testing.assert_close(adaptive_mean(x, bins), F.adaptive_avg_pool2d(x, bins))


@pytest.mark.parametrize("bins", [1, 2, 3, 6])
def test_s5_adaptive_pooling_equals_the_librarys(bins):
    x = torch.randn(1, 3, 12, 18)
    step = (round(12 / bins), round(18 / bins))
    torch.testing.assert_close(adaptive_mean(x, bins), F.avg_pool2d(x, step, step))


def test_factored_pyramid_equals_the_convolution_of_the_concatenation():
    block = PyramidPooling(8, 6, 4, batch_norm=(0.1, 1e-5)).eval()
    x = torch.randn(2, 8, 13, 17)
    resized = [F.interpolate(b, x.shape[-2:], mode="bilinear", align_corners=False) for b in block.branches(x)]
    literal = F.relu(block.fuse_norm(block.fuse(torch.cat([x, *resized], 1))))
    torch.testing.assert_close(block(x), literal, atol=1e-5, rtol=1e-5)


def test_paper_mode_learns_at_the_heads_size_from_nearest_labels():
    model = create_model("sis_cnn", classes=2, encoder="vgg16", decoder="unet", output_size="head")
    labels = torch.zeros(1, 32, 32, dtype=torch.int64)
    labels[:, 1::2] = 255  # nearest takes the even rows and columns: nothing of this is seen
    labels[:, :, 1::2] = 255
    outputs = model(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
    found = model.loss(outputs, Targets(semantic=labels))["semantic"]
    expected = F.cross_entropy(outputs.semantic, torch.zeros(1, 16, 16, dtype=torch.int64))
    torch.testing.assert_close(found, expected)


def test_output_strides_of_the_psp_ablation():
    for stride in (32, 16, 8):
        config = find_recipe(f"sis_cnn.ablation_output_stride_{stride}").config if stride < 32 else None
        model = create_model("sis_cnn", classes=2, encoder="resnet50", decoder="pspnet", output_stride=stride).eval()
        assert config is None or config.output_stride == stride
        assert model.encoder(torch.zeros(1, 3, 64, 96))[-1].shape[-2:] == (64 // stride, 96 // stride)


def test_every_recipe_is_whole():
    found = recipes()
    assert {f"sis_cnn.paper_{e}_{d}" for e in ("vgg16", "resnet50") for d in ("unet", "pspnet")} <= found.keys()
    for name, make in found.items():
        assert make().name == name
        assert make.__doc__


def test_paper_protocol():
    recipe = find_recipe("sis_cnn.paper_resnet50_pspnet")
    training = recipe.training
    assert (training.optimizer, training.learning_rate, training.weight_decay) == ("adam", 2e-4, 0.0)
    assert (training.batch, training.steps_per_epoch, training.epochs) == (2, 512, 5)
    assert recipe.input.size == (384, 576)
    assert recipe.augmentation.offline_flips
    assert find_recipe("sis_cnn.camvid").augmentation.flip_vertical == 0.0
