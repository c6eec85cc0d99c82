"""The hourglass beyond the contract of all models: spec 1.9 (H1 to H9), objects, losses."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from smalti.containers import Frame, Instances, Outputs, Targets
from smalti.geometry.distances import distance_weights, instance_distances
from smalti.geometry.edges import label_edges
from smalti.labels import LabelSet
from smalti.metrics.panoptic import PanopticQuality
from smalti.models.create import create_model
from smalti.models.hourglass import SEEDS, Config
from smalti.parts.encoders.indexed_vgg import IndexedVGG, _pool
from smalti.parts.grouping import Grouping, group_objects
from smalti.parts.losses.balance import UncertaintyWeights
from smalti.parts.losses.distance import distance_loss
from smalti.parts.losses.edge import balanced_edge_loss, edges_by_class

LABELS = LabelSet(names=("ground", "car", "person"), things=frozenset({"car", "person"}))


def pictures(*shape):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def count(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("size", [(300, 500), (37, 53), (256, 256), (1, 1)])
def test_h1_shapes(size):
    model = create_model("hourglass", classes=4, encoder="vgg11_bn").eval()
    outputs = model(pictures(1, 3, *size))
    assert [tuple(m.shape) for m in (outputs.semantic, outputs.edges, outputs.distances)] == [
        (1, 4, *size), (1, 1, *size), (1, 1, *size),
    ]  # fmt: skip


def test_h1_large_pictures():
    with torch.device("meta"):
        model = create_model("hourglass", classes=19).eval()
        outputs = model(torch.zeros(1, 3, 1024, 2048, dtype=torch.uint8))
    assert outputs.semantic.shape == (1, 19, 1024, 2048)


def test_h2_parameters():
    with torch.device("meta"):
        concat, added = (create_model("hourglass", classes=19, skip=skip) for skip in ("concat", "sum"))
        alone = [create_model("hourglass", classes=19, tasks=tasks) for tasks in (("semantic",), ("semantic", "edges"))]
    assert count(concat) == 35_825_685
    assert (count(concat.encoder), count(concat.shared)) == (14_718_912, 19_766_016)
    assert [count(branch) for branch in concat.branches.values()] == [453_843, 443_457, 443_457]
    assert count(added) == 29_964_309
    semantic = count(alone[0])
    one_map = count(alone[1]) - 453_843
    assert semantic + 2 * one_map == 104_795_541


def test_h3_unpooling_puts_maxima_back():
    x = torch.tensor([[[[1.0, 3, 2], [4, 2, 9]]]])
    pooled, indices = F.max_pool2d(x, 2, 2, ceil_mode=True, return_indices=True)
    assert pooled.flatten().tolist() == [4, 9]
    assert indices.flatten().tolist() == [3, 5]
    assert F.max_unpool2d(pooled, indices, 2, 2, output_size=(2, 3)).tolist() == [[[[0, 0, 0], [4, 0, 9]]]]


def test_h3_the_encoders_indices_are_those_of_its_maps():
    encoder = IndexedVGG("vgg11_bn").eval()
    x, maps, indices = encoder(torch.randn(1, 3, 37, 53))
    assert [tuple(m.shape[-2:]) for m in maps] == [(37, 53), (19, 27), (10, 14), (5, 7), (3, 4)]
    assert x.shape[-2:] == (2, 2)
    for m, where in zip(maps, indices, strict=True):
        values = m.flatten(2).gather(2, where.flatten(2))
        torch.testing.assert_close(values.view(where.shape), F.max_pool2d(m, 2, 2, ceil_mode=True))


def test_h4_a_task_alone_moves_its_own_layers_and_the_encoder():
    model = create_model("hourglass", classes=3, encoder="vgg11_bn").train()
    outputs = model(pictures(2, 3, 32, 32))
    labels = torch.randint(0, 3, (2, 32, 32))
    nothing = torch.zeros(2, 32, 32)
    terms = model.loss(outputs, Targets(semantic=labels, edges=labels.clamp(max=1), distances=nothing,
                                        distance_weights=nothing, distances_valid=nothing == 0))  # fmt: skip
    terms["edges"].backward()
    for name, branch in model.branches.items():
        moved = [p.grad is not None and bool(p.grad.abs().sum() > 0) for p in branch.parameters()]
        assert all(moved) if name == "edges" else not any(moved)
    convolutions = [m for m in model.encoder.modules() if isinstance(m, nn.Conv2d)]
    assert all(conv.weight.grad.abs().sum() > 0 for conv in convolutions)


def test_h6_losses_by_hand():
    ids = np.zeros((7, 7), np.int32)
    ids[1:6, 1:6] = 1
    truth = instance_distances(ids)
    distances, weights = (torch.from_numpy(m)[None] for m in (truth, distance_weights(ids, truth)))
    half = torch.full((1, 7, 7), 0.5)
    everywhere = torch.ones(1, 7, 7, dtype=torch.bool)
    assert float(distance_loss(half, distances, weights, everywhere)) == pytest.approx(0.305, abs=1e-6)
    edges = torch.zeros(1, 1, 10, 10, dtype=torch.int64)
    edges[..., 0] = 1
    loss = float(balanced_edge_loss(torch.zeros(1, 1, 10, 10), edges))
    assert loss == pytest.approx(0.18 * math.log(2), abs=1e-7)
    assert loss == pytest.approx(0.124766, abs=1e-6)


def test_losses_without_edges_objects_or_truth():
    logits = torch.randn(2, 1, 4, 4, requires_grad=True)
    none = torch.zeros(2, 1, 4, 4, dtype=torch.int64)
    assert float(balanced_edge_loss(logits, none).detach()) > 0  # that there are none is learned, too
    assert float(balanced_edge_loss(logits, none + 255).detach()) == 0
    zero, nowhere = torch.zeros(2, 4, 4), torch.zeros(2, 4, 4, dtype=torch.bool)
    assert float(distance_loss(logits[:, 0].sigmoid(), zero, zero, nowhere).detach()) == 0
    assert torch.isfinite(distance_loss(logits[:, 0].sigmoid(), zero, zero, ~nowhere))


def test_edges_of_each_class_are_those_of_its_side():
    edges = torch.tensor([[[1, 1, 0, 255]]])
    labels = torch.tensor([[[0, 1, 1, 255]]])
    assert edges_by_class(edges, labels, 2)[0].tolist() == [[[1, 0, 0, 255]], [[0, 1, 0, 255]]]


def test_learned_weights_by_hand():
    weights = UncertaintyWeights(("semantic", "distances"), regressions=("distances",))
    with torch.no_grad():
        weights.log_variance["distances"].fill_(math.log(4))
    found = weights({"semantic": torch.tensor(3.0), "distances": torch.tensor(2.0)})
    assert float(found["semantic"].detach()) == 3
    assert float(found["distances"].detach()) == pytest.approx(2 / 8 + math.log(4) / 2)
    assert float(weights({"distances": torch.tensor(0.0)})["distances"].detach()) == 0  # no truth, nothing to learn


def scene(rng, convex=False, size=(128, 192), objects=14):
    """Ellipses and boxes, of which a later one covers an earlier one; or ellipses that do not touch."""
    y, x = np.mgrid[: size[0], : size[1]]
    ids = np.zeros(size, np.int32)
    for k in range(1, objects + 1):
        cy, cx, a, b = rng.uniform(0, size[0]), rng.uniform(0, size[1]), *rng.uniform(6, 22, 2)
        dy, dx = np.abs(y - cy) / a, np.abs(x - cx) / b
        mask = dy**2 + dx**2 < 1 if convex or rng.random() < 0.5 else np.maximum(dy, dx) < 1
        if convex and (ids[(dy / 1.3) ** 2 + (dx / 1.3) ** 2 < 1] > 0).any():
            continue
        ids[mask] = k
    small = np.flatnonzero(np.bincount(ids.ravel()) < 30)  # what is all but hidden cannot be found
    ids[np.isin(ids, small)] = 0
    return ids


@pytest.mark.parametrize("norm", ["instance", "truncate", "dwt"])
@pytest.mark.parametrize(("convex", "least"), [(False, 0.95), (True, 0.995)])
def test_h8_perfect_maps_become_the_objects_again(convex, least, norm):
    rng = np.random.default_rng(0)
    labels = LabelSet(names=("ground", "thing"), things=frozenset({"thing"}))
    quality, rules = PanopticQuality(labels), Grouping(seed_distance=SEEDS[norm])
    for _ in range(12):
        ids = scene(rng, convex)
        classes = (ids > 0).astype(np.uint8)
        edges = (label_edges(classes, ids) == 1).astype(np.float32)
        found = group_objects(classes, {1: "thing"}, instance_distances(ids, norm), edges=edges, rules=rules)
        quality.update((classes, found.ids), (classes, ids))
    things = quality.classes[1]
    assert quality.metrics()["panoptic.pq_things"] >= least
    assert things.matched > 60
    assert things.missed <= 0.02 * things.matched


def test_only_the_surest_objects_are_kept():
    ids = np.zeros((60, 60), np.int32)
    for k in range(9):
        ids[20 * (k // 3) + 2 : 20 * (k // 3) + 18, 20 * (k % 3) + 2 : 20 * (k % 3) + 18] = k + 1
    classes, distances = (ids > 0).astype(np.uint8), instance_distances(ids)
    confidence = np.where(ids == 5, 1, np.where(ids == 7, 0.9, 0.5))
    found = group_objects(classes, {1: "thing"}, distances, confidence=confidence, rules=Grouping(most=2))
    assert len(found.labels) == len(found.scores) == 2
    assert [np.unique(ids[found.ids == k]).tolist() for k in (1, 2)] == [[5], [7]]
    assert set(np.unique(found.ids).tolist()) == {0, 1, 2}


def dumbbells():
    """Two of them, one below the other: discs of 15 pixels with a waist of 5, which parts their seeds."""
    ids = np.zeros((48, 50), np.int32)
    rows, columns = np.mgrid[:48, :50]
    for k, middle in enumerate((11, 35)):
        for centre in (10, 38):
            ids[(rows - middle) ** 2 + (columns - centre) ** 2 <= 64] = k + 1
        ids[middle - 2 : middle + 3, 10:38] = k + 1
    return ids, instance_distances(ids)


def test_parts_of_an_object_are_joined_where_no_edge_is_between_them():
    ids, distances = dumbbells()
    classes = (ids > 0).astype(np.uint8)
    none = np.zeros(ids.shape, np.float32)
    across = none.copy()
    across[:24, 23:25] = 1.0  # through the upper one's waist
    one = {1: "thing"}
    assert len(group_objects(classes, one, distances, edges=none).labels) == 4
    joined = Grouping(join_below=0.5)
    both = group_objects(classes, one, distances, edges=none, rules=joined)
    assert np.array_equal(both.ids, ids)
    assert both.labels == [1, 1]
    scores = group_objects(classes, one, distances, edges=none, confidence=none + 0.5, rules=joined).scores
    assert scores == pytest.approx([0.5 * distances[(ids == k) & (distances > 0.5)].mean() for k in (1, 2)], rel=1e-5)
    parted = group_objects(classes, one, distances, edges=across, rules=joined)
    assert len(parted.labels) == 3
    assert len(np.unique(parted.ids[ids == 2])) == 1
    assert len(np.unique(parted.ids[ids == 1])) == 2
    assert len(group_objects(classes, one, distances, rules=joined).labels) == 4  # where edges are not known
    classes[:, :24] *= 2
    assert len(group_objects(classes, {1: "a", 2: "b"}, distances, edges=none, rules=joined).labels) == 4


def test_doubtful_objects_are_none():
    ids, distances = dumbbells()
    classes, confidence = (ids > 0).astype(np.uint8), np.where(ids == 1, 0.55, 0.9)
    rules = Grouping(join_below=0.5, least_confidence=0.6)
    found = group_objects(
        classes, {1: "thing"}, distances, edges=np.zeros_like(distances), confidence=confidence, rules=rules
    )
    assert np.array_equal(found.ids > 0, ids == 2)
    assert len(found.labels) == len(found.scores) == 1


def test_h9_alone_or_in_a_batch():
    model = create_model("hourglass", classes=3, encoder="vgg11_bn").eval()
    x = pictures(3, 3, 37, 53)
    with torch.inference_mode():
        together, alone = model(x), model(x[1:2])
    for name in ("semantic", "edges", "distances"):
        torch.testing.assert_close(getattr(together, name)[1:2], getattr(alone, name), atol=1e-5, rtol=1e-5)


def outputs_of(ids, classes, labels):
    """Maps so certain that their decoding is the truth."""
    semantic = 20.0 * F.one_hot(torch.from_numpy(classes).long(), len(labels)).permute(2, 0, 1)
    edges = torch.from_numpy((label_edges(classes, ids) == 1) * 40.0 - 20.0).float()
    distances = torch.logit(torch.from_numpy(instance_distances(ids)), eps=1e-6)
    return Outputs(semantic=semantic[None], edges=edges[None, None], distances=distances[None, None])


def test_decoding_gives_objects_of_each_class_with_boxes_and_scores():
    model = create_model("hourglass", classes=LABELS, encoder="tf_efficientnet_lite0", upsample="bilinear").eval()
    ids = np.zeros((60, 80), np.int32)
    ids[5:25, 5:25], ids[5:25, 25:45], ids[30:50, 10:40] = 1, 2, 3
    classes = np.array([0, 1, 1, 2], np.uint8)[ids]
    (answer,) = model.decode(outputs_of(ids, classes, LABELS), [Frame.whole((60, 80))])
    found = answer.instances
    assert found.labels.tolist() == [1, 1, 2]
    assert sorted(found.boxes.tolist()) == [[5, 5, 25, 25], [10, 30, 40, 50], [25, 5, 45, 25]]
    assert ((found.scores > 0.5) & (found.scores <= 1)).all()
    assert torch.equal(found.masks.any(0), torch.from_numpy(ids > 0))
    assert answer.edges.shape == answer.distances.shape == (60, 80)


def test_regions_without_a_seed_are_objects_if_large_enough():
    classes = np.zeros((40, 60), np.uint8)
    classes[2:12, 2:13], classes[20:24, 20:24] = 1, 1
    flat = np.full((40, 60), 0.3, np.float32)
    found = group_objects(classes, {1: "car"}, flat)
    assert len(found.labels) == 1
    assert (found.ids > 0).sum() == 110
    assert found.scores == pytest.approx([0.3], abs=1e-6)
    assert len(group_objects(np.zeros((4, 4), np.uint8), {1: "car"}, flat[:4, :4]).labels) == 0


def test_seeds_of_cars_must_be_larger():
    classes = np.ones((6, 5), np.uint8)
    distances = np.zeros((6, 5), np.float32)
    distances[:5, :4] = 0.9  # 20 pixels
    assert group_objects(classes, {1: "person"}, distances).labels == [1]
    assert group_objects(classes, {1: "car"}, distances).labels == []


def test_no_objects_are_an_empty_answer():
    found = Instances.from_ids(np.zeros((3, 4), np.int32), [], [])
    assert (found.boxes.shape, found.masks.shape, len(found)) == ((0, 4), (0, 3, 4), 0)


def test_biases_of_pretrained_convolutions_move_into_the_normalisations(tmp_path, monkeypatch):
    import timm

    torch.manual_seed(0)
    plain = timm.create_model("vgg11_bn", pretrained=False).eval()
    for module in plain.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.uniform_(module.bias, -0.5, 0.5)
    torch.save(plain.state_dict(), tmp_path / "vgg11_bn.pth")
    monkeypatch.setenv("SMALTI_WEIGHTS", str(tmp_path))
    encoder = IndexedVGG("vgg11_bn", weights="imagenet").eval()
    x = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(encoder(x)[0], plain.features(x), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("config", "message"), [
    ({"tasks": ("edges",)}, 'must contain "semantic"'),
    ({"tasks": ("semantic", "semantic")}, "each task once"),
    ({"encoder": "resnet18"}, "unpooling needs one of the encoders"),
    ({"widths": (8, 8, 8, 8, 8)}, "for encoders other than VGG"),
    ({"widths": (8, 8)}, "four or five positive numbers"),
    ({"encoder": "resnet10t", "upsample": "bilinear", "shared_stages": 4}, "no stage of their own"),
    ({"encoder": "convnext_atto", "upsample": "bilinear"}, "an encoder with five maps"),
])  # fmt: skip
def test_settings_that_make_no_network(config, message):
    with pytest.raises(ValueError, match=message):
        create_model("hourglass", classes=2, **config)


def test_defaults_are_the_papers():
    assert Config() == Config(
        tasks=("semantic", "edges", "distances"), encoder="vgg16_bn", skip="concat", shared_stages=3
    )


@pytest.mark.parametrize("size", [(1, 1), (6, 8), (7, 4), (5, 9)])
def test_pooling_for_other_runtimes_finds_the_same_places(size, monkeypatch):
    maps = torch.randint(0, 3, (2, 3, *size), generator=torch.Generator().manual_seed(0)).float()  # often equal
    wanted = _pool(maps)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    for one, other in zip(_pool(maps), wanted, strict=True):
        assert torch.equal(one, other)
