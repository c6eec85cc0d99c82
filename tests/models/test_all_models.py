"""One contract over all `MODELS` (design: finite loss, a gradient everywhere, honest needs, any size, …)."""

import dataclasses

import jaxtyping
import pytest
import torch
import torch.nn.functional as F

from smalti import checkpoint
from smalti.checkpoint import Card
from smalti.containers import Frame, Instances, Outputs, Targets
from smalti.export.program import to_program
from smalti.labels import LabelSet
from smalti.models import MODELS
from smalti.models.create import build, create_model, load_weights, model_class
from smalti.parts.losses import SemanticLoss
from smalti.recipe import DataRecipe, InputPolicy, Recipe

SMALL = {
    "sis_cnn": {
        "unet": {"encoder": "resnet18", "decoder": "unet", "widths": (16, 16, 16, 8)},
        "unet_pyramid": {
            "encoder": "tf_efficientnet_lite0", "widths": (16, 16, 16, 8, 8), "context": "pyramid_pooling",
            "convolutions": 2, "conv_order": "conv_bn_relu", "upsample": "bilinear",
        },
        "pspnet": {"encoder": "resnet18", "decoder": "pspnet", "psp_width": 16, "output_stride": 16},
        "head": {"encoder": "vgg11", "decoder": "unet", "widths": (16, 16, 16, 8), "output_size": "head"},
    },
    "pac_deeplab": {
        "pac": {"encoder": "resnet18", "multi_grid": (1, 2), "width": 16},
        "aspp": {"encoder": "resnet18", "multi_grid": None, "width": 16, "context": "aspp", "output_stride": 8},
        "light": {"encoder": "tf_efficientnet_lite0", "multi_grid": None, "width": 16, "merge": "concat"},
        "none": {"encoder": "resnet10t", "multi_grid": None, "width": 16, "context": "none", "project": 8},
    },
    "ccfnet": {
        "paper": {"encoder": "resnet18", "width": 16},
        "pyramid": {"encoder": "tf_efficientnet_lite0", "width": 16, "features": "pyramid", "output_stride": 4},
        "probabilities": {
            "encoder": "resnet10t", "width": 16, "mix": "probabilities", "attention_input": "features+coarse",
            "balance_difficulty": True, "fine_loss": 0.4,
        },
        "in_part": {"encoder": "resnet18", "width": 16, "refine_budget": 0.3, "refine_tile": 2},
        "fine": {"encoder": "resnet18", "width": 16, "gate": "fine"},
        "average": {"encoder": "resnet18", "width": 16, "gate": "average"},
    },
    "hourglass": {
        "paper": {"encoder": "vgg11_bn"},
        "light": {"encoder": "tf_efficientnet_lite0", "upsample": "bilinear", "widths": (16, 16, 16, 8, 8)},
        "supervised": {
            "encoder": "vgg11_bn", "skip": "none", "deep_supervision": True, "task_weights": "uncertainty",
            "edge_mode": "per_class", "shared_stages": 2,
        },
        "sum": {"encoder": "resnet10t", "upsample": "bilinear", "skip": "sum", "widths": (16, 16, 16, 8, 8)},
    },
}  # fmt: skip
SMALL["ivanet"] = {
    "joint": {"encoder": "resnet10t", "width": 16, "pcm_width": 16},
    "full": {"encoder": "resnet10t", "width": 16, "pcm_width": 16, "top_down": "full", "pcm_reduce": 64, "size": 512},
    "none": {"encoder": "resnet10t", "width": 16, "pcm_width": 16, "top_down": "none", "anchors": "ssd",
             "segmentation_loss_size": "head", "pcm_levels": 3},
    "one": {"encoder": "tf_efficientnet_lite0", "width": 16, "pcm_width": 16, "top_down": "one"},
    "pixels": {"encoder": "resnet10t", "width": 16, "pcm_width": 16, "tasks": ("semantic",), "segmentation_stride": 4},
    "pooling": {"encoder": "resnet10t", "width": 16, "pcm_width": 16, "context": "pooling"},
}  # fmt: skip
CASES = [pytest.param(name, config, id=f"{name}-{key}") for name, by in SMALL.items() for key, config in by.items()]


def test_every_model_is_tried():
    assert SMALL.keys() == MODELS.keys()


def pictures(*shape):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def table(classes):
    names = tuple(f"class_{k}" for k in range(classes))
    return LabelSet(names=names, things=frozenset(names[1:]))


def truth(model, labels):
    """Targets with all that the model needs; labels of 255 are unlabelled for every task."""
    unknown = labels == 255
    objects = labels == 1
    edges = (labels[:, 1:-1] != labels[:, 2:]).long()
    made = {
        "semantic": labels,
        "edges": F.pad(edges, (0, 0, 1, 1)).masked_fill(unknown, 255),
        "distances": torch.rand(labels.shape) * objects,
        "distances_valid": ~unknown,
        "distance_weights": objects.float(),
        "padding": torch.zeros_like(unknown),
        "instances": tuple(
            None
            if bool(own.all())
            else Instances(boxes=torch.tensor([[8.0, 8, 40, 40], [30, 10, 60, 62]]), labels=torch.tensor([1, 0]))
            for own in unknown
        ),
    }
    return Targets(**{name: made[name] for name in model.needs})


@pytest.fixture
def make():
    def made(name, config, classes=5):
        torch.manual_seed(0)
        return create_model(name, classes=table(classes), **config)

    return made


@pytest.mark.parametrize(("name", "config"), CASES)
def test_finite_loss_and_a_gradient_at_every_parameter(make, name, config):
    model = make(name, config)
    assert model.needs <= {f.name for f in dataclasses.fields(Targets)}
    labels = torch.randint(0, 5, (2, 64, 96))
    labels[:, :4] = 255
    terms = model.loss(model(pictures(2, 3, 64, 96)), truth(model, labels))
    total = sum(terms.values())
    assert torch.isfinite(total)
    total.backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert not without


@pytest.mark.parametrize(("name", "config"), CASES)
def test_missing_truth_costs_nothing(make, name, config):
    model = make(name, config)
    terms = model.loss(model(pictures(2, 3, 64, 64)), truth(model, torch.full((2, 64, 64), 255)))
    assert sum(terms.values()) == 0


@pytest.mark.parametrize("size", [(37, 53), (64, 64), (1, 1), (65, 33)])
@pytest.mark.parametrize(("name", "config"), CASES)
def test_any_size_after_padding_to_the_stride(make, name, config, size):
    model = make(name, config).eval()
    padded = tuple(-(-n // model.stride) * model.stride for n in size)
    frame = Frame(original=size, resized=size, padded=padded)
    with torch.inference_mode():
        outputs = model(pictures(1, 3, *padded))
        (answer,) = model.decode(outputs, [frame])
    assert answer.semantic.shape == size
    assert answer.semantic.dtype == torch.uint8
    assert answer.semantic.max() < 5
    assert answer.probabilities.shape == (5, *size)
    torch.testing.assert_close(answer.confidence, answer.probabilities.amax(0))


@pytest.mark.parametrize(("name", "config"), CASES)
def test_its_graph_for_other_runtimes_answers_alike_at_any_size(make, name, config, monkeypatch):
    """Traced at one size: nothing in it may remember that size, or what is larger or odd there."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # sizes are symbols while a graph is traced
    model = make(name, config).eval()
    graph = to_program(model, InputPolicy()).graph.module(check_guards=False)
    for size in ((1, 1), (17, 40), (96, 33), (130, 190), (259, 320)):
        rows, columns = (-(-side // model.stride) * model.stride for side in size)
        images = pictures(1, 3, rows, columns)
        with torch.no_grad():
            wanted = [value for value in model(images) if isinstance(value, torch.Tensor)]
            found = graph(images)
        for one, other in zip(wanted, found, strict=True):
            torch.testing.assert_close(other, one, rtol=0, atol=1e-5 * float(one.abs().max()))


@pytest.mark.parametrize(("name", "config"), CASES)
def test_an_answer_does_not_depend_on_its_neighbours(make, name, config):
    model = make(name, config).eval()
    batch = pictures(3, 3, 64, 96)
    with torch.inference_mode():
        together, alone = model(batch), model(batch[1:2])
    for a, b in zip(together, alone, strict=True):
        if a is not None:
            torch.testing.assert_close(a[1:2], b, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("name", "config"), CASES)
def test_saved_and_loaded_it_answers_the_same(make, name, config, tmp_path):
    model = make(name, config).eval()
    recipe = Recipe(name="test", model=name, config=model.config, data=DataRecipe(set="scenes", root="/secret/place"))
    card = Card(recipe=recipe, labels=model.labels, epoch=3, steps=30, metrics={"semantic.miou": 0.5}, version="x")
    checkpoint.save(model, card, tmp_path / "best.safetensors")
    loaded, read = checkpoint.load(tmp_path)
    assert read.recipe.config == model.config
    assert (read.epoch, read.steps, read.metrics, read.labels) == (3, 30, {"semantic.miou": 0.5}, model.labels)
    assert b"/secret/place" not in (tmp_path / "best.safetensors").read_bytes()
    x = pictures(1, 3, 64, 64)
    with torch.inference_mode():
        for a, b in zip(model(x), loaded(x), strict=True):
            assert a is None or torch.equal(a, b)


@pytest.mark.parametrize(("name", "config"), CASES)
def test_weights_of_other_classes_are_refused(make, name, config, tmp_path):
    model = make(name, config)
    recipe = Recipe(name="test", model=name, config=model.config, data=DataRecipe(set="scenes"))
    path = tmp_path / "best.safetensors"
    checkpoint.save(model, Card(recipe=recipe, labels=model.labels, metrics={}), path)
    with pytest.raises(ValueError, match="another number of classes"):
        load_weights(make(name, config, classes=4), path)
    same = build(model_class(name), model.config, table(5), path)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), same.state_dict().values(), strict=True))


@pytest.mark.parametrize(("name", "config"), CASES)
def test_overfits_one_picture(make, name, config):
    loss = SemanticLoss()
    model = make(name, {**config, "semantic_loss": loss}, classes=2).train()
    x = pictures(2, 3, 64, 64)
    x[..., :32] //= 4
    labels = torch.zeros(2, 64, 64, dtype=torch.int64)
    labels[..., 32:] = 1
    targets = truth(model, labels)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for _ in range(60):
        total = sum(model.loss(model(x), targets).values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        losses.append(float(total.detach()))
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize(("name", "config"), CASES)
def test_other_channels(make, name, config):
    model = make(name, {**config, "in_channels": 4}).eval()
    assert model(pictures(1, 4, 64, 64)).semantic is not None
    with pytest.raises(ValueError, match="4 channels, got 3"):
        model(pictures(1, 3, 64, 64))
    with pytest.raises(ValueError, match="uint8 or uint16"):
        model.normalise(torch.zeros(1, 4, 64, 64))
    deep = (pictures(1, 4, 64, 64).to(torch.int32) * 257).to(torch.uint16)
    torch.testing.assert_close(model.normalise(deep), model.normalise(pictures(1, 4, 64, 64)))


def test_outputs_name_every_task():
    assert Outputs._fields[0] == "semantic"


def test_unknown_names_say_the_nearest():
    with pytest.raises(ValueError, match='did you mean "sis_cnn"'):
        create_model("sis_cn", classes=2)
    with pytest.raises(ValueError, match='did you mean "encoder"'):
        create_model("sis_cnn", classes=2, encodr="resnet18")
    with pytest.raises(ValueError, match="must be one of unet, pspnet"):
        create_model("sis_cnn", classes=2, decoder="fpn")
