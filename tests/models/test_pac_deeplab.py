"""The network as a whole: the specification's counts (P1) and sizes (P2), and what its recipes promise."""

import pytest
import torch
import torch.nn.functional as F

from smalti.containers import Outputs, Targets
from smalti.models.create import ablations, create_model, find_ablation, find_recipe, paper_numbers
from smalti.parts.losses import BoundaryWeights, SemanticLoss
from smalti.settings import override

TINY = {"encoder": "resnet18", "multi_grid": None, "width": 8}


def parameters(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("config", "head", "whole"),
    [
        ({}, 5_786_901, 48_287_061),
        ({"norm": "post"}, 5_784_853, 48_285_013),
        ({"project": 256}, 5_973_269, 48_473_429),
        ({"context": "aspp"}, 15_540_501, 58_040_661),
    ],
)
def test_p1_parameters(config, head, whole):
    with torch.device("meta"):
        model = create_model("pac_deeplab", classes=21, **config)
    assert parameters(model.encoder) == 42_500_160
    assert parameters(model.head) == head
    assert parameters(model) == whole


@pytest.mark.slow
def test_p2_sizes_of_the_paper():
    model = create_model("pac_deeplab", classes=21).eval()
    x = torch.zeros(1, 3, 513, 513, dtype=torch.uint8)
    with torch.inference_mode():
        coarse = model.encoder(model.normalise(x))[-1]
        assert coarse.shape == (1, 2048, 33, 33)
        assert model.head(coarse).shape == (1, 21, 33, 33)
        assert model(x).semantic.shape == (1, 21, 513, 513)


def dilations(model):
    return [block.conv2.dilation[0] for block in model.encoder.network.layer4]


def test_multi_grid_and_rates_double_at_the_finer_stride():
    with torch.device("meta"):
        coarse = create_model("pac_deeplab", classes=2, encoder="resnet50")
        fine = create_model("pac_deeplab", classes=2, encoder="resnet50", output_stride=8)
    assert dilations(coarse) == [2, 4, 8]
    assert dilations(fine) == [4, 8, 16]
    assert coarse.head.context.rates == (1, 3, 5, 7, 9)
    assert fine.head.context.rates == (2, 6, 10, 14, 18)
    with torch.device("meta"):
        aspp = create_model("pac_deeplab", classes=2, encoder="resnet50", context="aspp", output_stride=8)
    assert aspp.head.context.rates == (12, 24, 36)


def test_weights_trained_at_one_stride_answer_at_the_other():
    torch.manual_seed(0)
    coarse = create_model("pac_deeplab", classes=3, **TINY).eval()
    fine = create_model("pac_deeplab", classes=3, **TINY, output_stride=8).eval()
    fine.load_state_dict(coarse.state_dict())
    x = torch.zeros(1, 3, 65, 65, dtype=torch.uint8)
    assert coarse.encoder(coarse.normalise(x))[-1].shape[-2:] == (5, 5)
    assert fine.encoder(fine.normalise(x))[-1].shape[-2:] == (9, 9)
    assert fine(x).semantic.shape == (1, 3, 65, 65)


def test_multi_grid_needs_a_resnet_with_as_many_blocks():
    with pytest.raises(ValueError, match='"tf_efficientnet_lite0" has no ResNet stages: set multi_grid to none'):
        create_model("pac_deeplab", classes=2, encoder="tf_efficientnet_lite0")
    with pytest.raises(ValueError, match='"resnet18" has a last stage of 2 blocks'):
        create_model("pac_deeplab", classes=2, encoder="resnet18")
    with pytest.raises(ValueError, match="rates must be positive"):
        create_model("pac_deeplab", classes=2, **TINY, rates=(1, 0))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("project", 0), ("project", -3), ("width", 0), ("in_channels", 0),
        ("batch_norm", (3.0, 1e-5)), ("batch_norm", (0.1, 0.0)), ("multi_grid", (1, 0, 2)),
    ],
)  # fmt: skip
def test_numbers_that_make_no_network_are_named(field, value):
    with pytest.raises(ValueError, match=f"^{field} "):
        create_model("pac_deeplab", classes=3, encoder="resnet50", **{field: value})


@pytest.mark.parametrize(
    "config",
    [
        {"context": "none", "rates": (1, 3)}, {"context": "none", "merge": "sum"}, {"context": "aspp", "norm": "post"},
        {"context": "none", "norm": "shared"},
    ],
)  # fmt: skip
def test_what_would_mean_nothing_is_refused(config):
    with pytest.raises(ValueError, match=f"means nothing with context={config['context']}"):
        create_model("pac_deeplab", classes=3, encoder="resnet50", **config)


def test_the_head_is_figure_3():
    torch.manual_seed(0)
    model = create_model("pac_deeplab", classes=5, **TINY).eval()
    head, x = model.head, torch.randn(2, 512, 6, 7)
    pooled = head.image(F.adaptive_avg_pool2d(x, 1)).expand(-1, -1, 6, 7)
    joined = torch.cat([head.pixel(x), pooled, head.context(x)], 1)
    torch.testing.assert_close(head(x), head.classify(joined), atol=1e-5, rtol=1e-5)


def test_the_norms_momentum_is_the_papers_everywhere():
    model = create_model("pac_deeplab", classes=2, **TINY)
    momenta = {m.momentum for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)}
    assert momenta == {3e-4}


def test_padding_of_crops_makes_no_borders():
    model = create_model("pac_deeplab", classes=2, **TINY)
    assert model.needs == {"semantic", "padding"}
    assert create_model("pac_deeplab", classes=2, **TINY, semantic_loss=SemanticLoss()).needs == {"semantic"}
    labels = torch.zeros(1, 32, 32, dtype=torch.int64)
    labels[:, 16:] = 255
    padding = labels == 255
    outputs = Outputs(semantic=torch.zeros(1, 2, 32, 32))
    with_mask = model.loss(outputs, Targets(semantic=labels, padding=padding))["semantic"]
    without = model.loss(outputs, Targets(semantic=labels))["semantic"]
    assert float(with_mask) == pytest.approx(0.5 * float(torch.tensor(2.0).log()))
    assert float(without) > float(with_mask)


def test_the_papers_protocol():
    recipe = find_recipe("pac_deeplab.voc2012")
    training, augmentation = recipe.training, recipe.augmentation
    assert training.epochs * training.steps_per_epoch == 30_000
    assert (training.batch, training.learning_rate, training.weight_decay, training.momentum) == (16, 0.007, 1e-4, 0.9)
    assert (training.schedule, training.poly_power, training.optimizer) == ("poly", 0.9, "sgd")
    assert (augmentation.scale, augmentation.scale_step, augmentation.crop) == ((0.5, 2.0), 0.25, (513, 513))
    assert (recipe.data.set, recipe.data.train, recipe.data.validation) == ("voc", "train_aug", "val")


def test_table_3_is_four_recipes():
    found = {}
    for name in ("voc2012", "voc2012_aspp", "voc2012_aspp_bal", "voc2012_pac_only"):
        config = find_recipe(f"pac_deeplab.{name}").config
        found[config.context, config.semantic_loss.boundary] = paper_numbers(f"pac_deeplab.{name}")["semantic.miou"]
    best = BoundaryWeights()
    assert found == {("aspp", None): 0.7668, ("pac", None): 0.7697, ("aspp", best): 0.7764, ("pac", best): 0.7793}
    assert paper_numbers("pac_deeplab.camvid") == {}
    assert paper_numbers("my_recipes.py:tiny") == {}


def test_ablations_are_the_papers_tables():
    assert {"pac_deeplab.bal", "pac_deeplab.pac", "pac_deeplab.parts"} <= ablations().keys()
    bal, pac = find_ablation("pac_deeplab.bal"), find_ablation("pac_deeplab.pac")
    assert (len(bal.rows), len(pac.rows)) == (1 + 14, 1 + 7)
    for ablation in (bal, pac, find_ablation("pac_deeplab.parts")):
        assert len({row.name for row in ablation.rows}) == len(ablation.rows)
        baseline = override(ablation.recipe, ablation.rows[0].changes)
        assert (baseline.config.context, baseline.config.semantic_loss.boundary) == ("aspp", None)
        configs = [override(baseline, row.changes).config for row in ablation.rows]
        assert len(set(configs)) == len(configs)
        for config in configs:
            with torch.device("meta"):
                create_model("pac_deeplab", classes=3, **dict(vars(config)))
    best = override(override(bal.recipe, bal.rows[0].changes), bal.rows[-1].changes).config.semantic_loss.boundary
    assert best == BoundaryWeights()
    assert bal.rows[-1].reported == 0.96
