"""CCFNet beyond the contract of all models: spec 4.7 (C1 to C8), sparse refinement, ablations."""

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from smalti.containers import Frame, Targets
from smalti.models.ccfnet import Config
from smalti.models.create import create_model, find_ablation, find_recipe
from smalti.parts.context.pyramid_pooling import PyramidPooling
from smalti.parts.gate import attention_loss, chosen_tiles, coarse_is_right, mix
from smalti.parts.losses import SemanticLoss
from smalti.settings import override

TINY = {"encoder": "resnet18", "width": 8, "output_stride": 8}


@pytest.fixture
def make():
    def made(classes=3, **config):
        torch.manual_seed(0)
        return create_model("ccfnet", classes=classes, **{**TINY, **config})

    return made


def pictures(*shape):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def count(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(("classes", "parameters"), [(33, 65_493_124), (8, 65_467_474), (21, 65_480_812)])
def test_c1_parameters(classes, parameters):
    with torch.device("meta"):
        model = create_model("ccfnet", classes=classes)
    assert count(model) == parameters
    assert count(model.encoder) == 23_508_032
    if classes == 33:
        assert [count(m) for m in (model.coarse, model.attention, model.fine)] == [9_455_137, 9_439_234, 23_090_721]


def test_c1_pspnet_is_the_fine_branch_alone():
    with torch.device("meta"):
        model = create_model("ccfnet", classes=33, gate="fine")
    assert count(model) == 46_598_753


@pytest.mark.parametrize("size", [(256, 256), (241, 321)])
def test_c2_four_maps_of_the_pictures_size(make, size):
    outputs = make().eval()(pictures(1, 3, *size))
    maps = (outputs.semantic, outputs.coarse, outputs.fine, outputs.attention)
    assert [tuple(m.shape) for m in maps] == [(1, c, *size) for c in (3, 3, 3, 1)]


@pytest.mark.parametrize(("certainty", "winner"), [(1e4, "coarse"), (-1e4, "fine")])
@pytest.mark.parametrize("what", ["logits", "probabilities"])
def test_c3_gate_identities(make, certainty, winner, what):
    model = make(mix=what).eval()
    with torch.no_grad():
        model.attention[-1].weight.zero_()
        model.attention[-1].bias.copy_(torch.tensor([-certainty, certainty]))
    outputs = model(pictures(1, 3, 40, 56))
    expected = getattr(outputs, winner)
    if what == "logits":
        assert torch.equal(outputs.semantic, expected)
    else:
        torch.testing.assert_close(outputs.semantic, expected.log_softmax(1))


def test_c4_numbers_of_the_mix():
    coarse, fine = (torch.tensor(v).view(1, 2, 1, 1).detach().requires_grad_() for v in ([2.0, 0.0], [0.0, 2.0]))
    logits = torch.tensor([0.0, math.log(3)], requires_grad=True)  # of wrong and right: A = 0.75
    attention = (logits[1] - logits[0]).view(1, 1, 1, 1)
    mixed = mix(coarse, fine, attention)
    torch.testing.assert_close(mixed.flatten(), torch.tensor([1.5, 0.5]))
    torch.testing.assert_close(mixed.softmax(1).flatten(), torch.tensor([0.7311, 0.2689]), atol=5e-5, rtol=0)
    loss = F.cross_entropy(mixed, torch.zeros(1, 1, 1, dtype=torch.int64))
    assert float(loss.detach()) == pytest.approx(0.313262, abs=1e-6)
    loss.backward()
    for tensor, expected in ((coarse, (-0.2017, 0.2017)), (fine, (-0.0672, 0.0672)), (logits, (0.2017, -0.2017))):
        torch.testing.assert_close(tensor.grad.flatten(), torch.tensor(expected), atol=5e-5, rtol=0)
    probabilities = mix(coarse, fine, attention, "probabilities").exp().flatten()
    torch.testing.assert_close(probabilities, torch.tensor([0.6904, 0.3096]), atol=5e-5, rtol=0)


def test_c4_the_mix_is_exact_where_numbers_are_large():
    coarse, fine = torch.tensor([900.0, -900.0]).view(1, 2, 1, 1), torch.tensor([-900.0, 900.0]).view(1, 2, 1, 1)
    mixed = mix(coarse, fine, torch.tensor([-90.0]).view(1, 1, 1, 1), "probabilities")
    assert torch.isfinite(mixed).all()
    assert mixed.argmax(1).item() == 1


def test_c5_labels_of_the_attention():
    labels = torch.tensor([[[0, 1], [2, 255]]])
    perfect = F.one_hot(labels.clamp(max=2), 3).permute(0, 3, 1, 2).float()
    assert coarse_is_right(perfect, labels).flatten().tolist() == [1, 1, 1, 255]
    assert coarse_is_right(perfect.roll(1, 1), labels).flatten().tolist() == [0, 0, 0, 255]


def test_c5_the_attentions_loss_does_not_move_the_coarse_answer(make):
    model = make(attention_input="features+coarse")
    outputs = model(pictures(2, 3, 32, 32))
    terms = model.loss(outputs, Targets(semantic=torch.randint(0, 3, (2, 32, 32))))
    terms["attention"].backward()
    assert all(p.grad is None for p in model.coarse.parameters())
    assert all(p.grad is not None for p in model.attention.parameters())


def test_c6_classes_have_no_order(make):
    model, order = make().eval(), torch.tensor([2, 0, 1])
    x, labels = pictures(2, 3, 32, 48), torch.randint(0, 3, (2, 32, 48))
    before = model(x)
    loss = sum(model.loss(before, Targets(semantic=labels)).values())
    with torch.no_grad():
        for head in (model.coarse[-1], model.fine.classify[-1]):
            head.weight.copy_(head.weight[order])
            head.bias.copy_(head.bias[order])
    after = model(x)
    torch.testing.assert_close(after.semantic, before.semantic[:, order])
    permuted = order.argsort()[labels]
    torch.testing.assert_close(sum(model.loss(after, Targets(semantic=permuted)).values()), loss)


def test_c7_pools_of_a_constant_map_are_that_constant():
    pool = PyramidPooling(4, 6, 4, kernel=3, batch_norm=(0.1, 0.0)).eval()
    for project in pool.project:
        torch.nn.init.dirac_(project.weight)  # hands each channel through
    for branch in pool.branches(torch.full((1, 4, 9, 11), 2.5)):
        resized = F.interpolate(branch, (9, 11), mode="bilinear", align_corners=False)
        torch.testing.assert_close(resized, torch.full((1, 4, 9, 11), 2.5))


def test_c8_atrous_identity(make):
    """A dilated convolution of the encoder, read at every second pixel, is the undilated one of every second pixel."""
    encoder = make().encoder
    conv = next(m for m in encoder.modules() if isinstance(m, nn.Conv2d) and m.dilation == (2, 2))
    x = torch.randn(1, conv.in_channels, 16, 20)
    plain = F.conv2d(x[..., ::2, ::2], conv.weight, padding=1)
    torch.testing.assert_close(conv(x)[..., ::2, ::2], plain, atol=1e-5, rtol=0)


def test_the_paper_network_is_dilated_as_the_spec_says():
    model = create_model("ccfnet", classes=2)
    dilations = [
        [m.dilation[0] for m in getattr(model.encoder.network, f"layer{k}").modules()
         if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
        for k in (1, 2, 3, 4)
    ]  # fmt: skip
    assert dilations == [[1] * 3, [1] * 4, [1] + [2] * 5, [2, 4, 4]]


@pytest.mark.parametrize("size", [(5, 7), (6, 6), (1, 3), (9, 4)])
def test_the_fine_branch_is_the_convolution_of_the_concatenation(size):
    torch.manual_seed(0)
    pool = PyramidPooling(6, 5, 4, kernel=3).eval()
    x = torch.randn(2, 6, *size, requires_grad=True)
    resized = [F.interpolate(m, size, mode="bilinear", align_corners=False) for m in pool.branches(x)]
    literal = F.relu(pool.fuse_norm(pool.fuse(torch.cat([x, *resized], 1))))
    ours = pool(x)
    torch.testing.assert_close(ours, literal)
    wanted = torch.autograd.grad(literal.square().sum(), [x, *pool.parameters()])
    for a, b in zip(torch.autograd.grad(ours.square().sum(), [x, *pool.parameters()]), wanted, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("bins", [(), (0, 1), (2, -1)])
def test_bins_that_are_none(bins):
    with pytest.raises(ValueError, match="bins must be positive"):
        PyramidPooling(4, 4, 4, bins)


def answering(model, **changes):
    """The same weights, with another way to answer."""
    model.config = dataclasses.replace(model.config, **changes)
    return model.eval()


@pytest.mark.parametrize("what", ["logits", "probabilities"])
@pytest.mark.parametrize("size", [(96, 128), (100, 75)])
def test_full_budget_is_the_dense_answer_and_none_is_the_coarse_one(make, what, size):
    model = make(mix=what).eval()
    x = pictures(2, 3, *size)
    with torch.inference_mode():
        dense = model(x)
        full = answering(model, refine_budget=1.0)(x)
        all_below = answering(model, refine_budget=None, refine_below=1.0)(x)
        none = answering(model, refine_budget=0.0, refine_below=None)(x)
    torch.testing.assert_close(full.semantic, dense.semantic, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(all_below.semantic, dense.semantic, atol=1e-5, rtol=1e-5)
    assert torch.equal(none.semantic, dense.coarse)
    assert full.fine is None


def test_a_part_of_the_tiles_is_refined_and_nothing_else(make):
    model = make(refine_tile=2).eval()
    x = pictures(2, 3, 96, 128)
    with torch.inference_mode():
        dense = model(x)
        part = answering(model, refine_budget=0.3)(x)
        trust = F.interpolate(dense.attention, (12, 16), mode="area").sigmoid()
    refined = (part.semantic != dense.coarse).any(1)
    torch.testing.assert_close(
        part.semantic, torch.where(refined[:, None], dense.semantic, dense.coarse), atol=1e-5, rtol=1e-5
    )
    for k in range(2):
        tiles = refined[k].view(6, 16, 8, 16).any(3).any(1)
        assert int(tiles.sum()) == math.ceil(0.3 * 48)
        means = F.avg_pool2d(trust[k], 2)[0]
        assert means[tiles].mean() < means[~tiles].mean()


def test_the_least_trusted_tiles_are_chosen_for_each_picture():
    trust = torch.full((2, 1, 5, 6), 0.9)
    trust[0, 0, :2, :2] = 0.1
    trust[0, 0, 4, 4:] = 0.2  # a tile cut off by the border
    trust[1, 0, 2:4, 2:4] = 0.3
    assert chosen_tiles(trust, 2, budget=1 / 9).nonzero().tolist() == [
        [0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 1], [1, 2, 2], [1, 2, 3], [1, 3, 2], [1, 3, 3],
    ]  # fmt: skip
    below = chosen_tiles(trust, 2, below=0.25)
    assert below[0].sum() == 4 + 2
    assert below[1].sum() == 0


def test_training_refines_everywhere(make):
    model = make(refine_budget=0.1, fine_loss=0.4).train()
    outputs = model(pictures(2, 3, 64, 64))
    assert outputs.fine is not None
    assert set(model.loss(outputs, Targets(semantic=torch.zeros(2, 64, 64, dtype=torch.int64)))) == {
        "semantic", "coarse", "attention", "fine",
    }  # fmt: skip


@pytest.mark.parametrize("balanced", [False, True])
def test_loss_of_the_attention(balanced):
    attention = torch.tensor([2.0, 1.0, -1.0, 5.0, 9.0]).view(1, 1, 1, 5)
    right = torch.tensor([[[1, 1, 1, 0, 255]]])
    losses = [math.log(1 + math.exp(-2)), math.log(1 + math.exp(-1)), math.log(1 + math.e), math.log(1 + math.exp(5))]
    expected = (sum(losses[:3]) / 3 + losses[3]) / 2 if balanced else sum(losses) / 4
    assert float(attention_loss(attention, right, balanced=balanced)) == pytest.approx(expected, rel=1e-5)
    for only in (0, 1, 255):
        alone = attention_loss(attention, torch.full_like(right, only), balanced=balanced)
        assert torch.isfinite(alone)
        assert (float(alone) == 0) == (only == 255)


def gradients(model, term):
    outputs = model(pictures(2, 3, 32, 32))
    model.loss(outputs, Targets(semantic=torch.randint(0, 3, (2, 32, 32))))[term].backward()
    return {name: any(p.grad is not None and p.grad.abs().sum() > 0 for p in getattr(model, name).parameters())
            for name in ("coarse", "attention", "fine")}  # fmt: skip


def test_what_the_final_loss_moves(make):
    assert gradients(make(), "semantic") == {"coarse": True, "attention": True, "fine": True}
    detached = gradients(make(detach_attention=True), "semantic")
    assert detached == {"coarse": True, "attention": False, "fine": True}
    assert gradients(make(detach_coarse=True), "semantic")["coarse"] is False


@pytest.mark.parametrize(("gate", "fields"), [
    ("coarse", {"semantic"}), ("fine", {"semantic"}), ("average", {"semantic", "coarse", "fine"}),
    ("attention", {"semantic", "coarse", "fine", "attention"}),
])  # fmt: skip
def test_gates(make, gate, fields):
    model = make(gate=gate).eval()
    outputs = model(pictures(1, 3, 40, 40))
    assert {name for name, value in outputs._asdict().items() if value is not None} == fields
    if gate == "average":
        torch.testing.assert_close(outputs.semantic, (outputs.coarse + outputs.fine) / 2)
    (answer,) = model.decode(outputs, [Frame.whole((40, 40))])
    assert (answer.difficulty is not None) == (gate == "attention")


def test_difficulty_is_the_probability_that_coarse_is_wrong(make):
    model = make().eval()
    frame = Frame(original=(20, 30), resized=(40, 60), padded=(48, 64))
    outputs = model(pictures(1, 3, 48, 64))
    (answer,) = model.decode(outputs, [frame])
    assert answer.difficulty.shape == answer.coarse.shape == answer.fine.shape == (20, 30)
    odds = F.interpolate(outputs.attention[..., :40, :60], (20, 30), mode="bilinear")
    torch.testing.assert_close(answer.difficulty, 1 - odds[0, 0].sigmoid())
    coarse = F.interpolate(outputs.coarse[..., :40, :60], (20, 30), mode="bilinear").argmax(1)[0]
    assert torch.equal(answer.coarse.long(), coarse)


@pytest.mark.parametrize(("config", "message"), [
    ({"output_stride": 4}, 'needs features="pyramid"'),
    ({"refine_budget": 0.5, "refine_below": 0.5}, "not both"),
    ({"refine_budget": 0.5, "gate": "coarse"}, 'needs gate="attention"'),
    ({"refine_budget": 1.5}, "between 0 and 1"),
    ({"dropout": -0.1}, "between 0 and 1"),
    ({"fine_loss": -1.0}, "a number >= 0"),
    ({"width": 0}, "1 or more"),
    ({"refine_tile": 0}, "1 or more"),
    ({"in_channels": 0}, "in_channels is a number of channels"),
    ({"batch_norm": (0.1, -1.0)}, "eps above 0"),
    ({"dropout": 1.0}, "leave nothing"),
])  # fmt: skip
def test_settings_that_make_no_network(config, message):
    with pytest.raises(ValueError, match=message):
        create_model("ccfnet", classes=2, **config)


@pytest.mark.parametrize(("budget", "tiles"), [(0.07, 7), (0.14, 14), (0.28, 28), (0.001, 1), (0.0, 0), (1.0, 100)])
def test_a_budget_is_not_exceeded_by_rounding(budget, tiles):
    trust = torch.rand(1, 1, 10, 10)
    assert int(chosen_tiles(trust, 1, budget=budget).sum()) == tiles


def test_large_maps_are_refined_in_pieces(make, monkeypatch):
    from smalti.parts.context import pyramid_pooling

    model = make().eval()
    x = pictures(2, 3, 96, 128)
    with torch.inference_mode():
        dense = model(x).semantic
        monkeypatch.setattr(pyramid_pooling, "AT_ONCE", 7)
        torch.testing.assert_close(answering(model, refine_budget=1.0)(x).semantic, dense, atol=1e-5, rtol=1e-5)


def test_refined_in_part_in_bfloat16_and_on_a_pyramid(make):
    model = make(features="pyramid", output_stride=4).eval()
    x = pictures(1, 3, 64, 96)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        dense = model(x)
        assert dense.coarse.dtype == torch.float32  # in bfloat16 the classes would tie
        full = answering(model, refine_budget=1.0)(x)
    torch.testing.assert_close(full.semantic, dense.semantic, atol=0.05, rtol=0.05)


def test_a_stride_that_the_encoder_does_not_have():
    with pytest.raises(ValueError, match="none of output_stride=4"):
        create_model("ccfnet", classes=2, encoder="vit_small_patch16_224", features="pyramid", output_stride=4)


def test_the_loss_in_words(make):
    words = make(fine_loss=0.4, balance_difficulty=True).loss_in_words()
    assert words == "1 final + 1 coarse + 0.4 fine + 1 attention (balanced); of classes: 1 cross entropy"
    assert make(gate="fine").loss_in_words() == "1 cross entropy"


def test_ablation_rows_differ_and_build():
    ablation = find_ablation("ccfnet.parts")
    baseline = override(ablation.recipe, ablation.rows[0].changes)
    configs = [override(baseline, row.changes).config for row in ablation.rows]
    assert len(set(configs)) == len(configs)
    gates = {row.name: config.gate for row, config in zip(ablation.rows, configs, strict=True)}
    assert {name for name, gate in gates.items() if gate == "attention"} == {n for n in gates if "attention" in n}
    assert [gates[name] for name in ("coarse only", "fine only (PSPNet)", "average")] == ["coarse", "fine", "average"]
    ohem = next(c for c in configs if c.semantic_loss.ohem)
    assert ohem.semantic_loss == SemanticLoss(cross_entropy=0, ohem=1, ohem_keep=0.0625, ohem_threshold=0.7)


def test_recipes_follow_spec_4_4():
    stanford, sift = find_recipe("ccfnet.paper_stanford_background"), find_recipe("ccfnet.paper_sift_flow")
    assert stanford.config == sift.config == Config()
    for recipe, steps, crop in ((stanford, 20_000, (240, 240)), (sift, 30_000, (256, 256))):
        training = recipe.training
        assert training.epochs * training.steps_per_epoch == steps
        assert (training.batch, training.learning_rate, training.encoder_learning_rate) == (16, 0.1, 0.01)
        assert (training.optimizer, training.momentum, training.weight_decay) == ("sgd", 0.9, 1e-4)
        assert (training.schedule, training.poly_power) == ("poly", 0.9)
        assert (recipe.augmentation.crop, recipe.augmentation.scale) == (crop, (0.5, 2.0))
