"""Files for other runtimes answer as torch does, and carry what is needed to read their answers."""

import json
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import openvino
import pytest
import torch
from timm.layers.conv2d_same import Conv2dSame

from smalti import create_model
from smalti.checkpoint import FORMAT, Card
from smalti.export.forms import FORMS, OpenVinoForm
from smalti.export.program import Program, to_program
from smalti.labels import LabelSet
from smalti.models.create import CARD
from smalti.parts.encoders import indexed_vgg
from smalti.parts.same_padding import SameConv2d
from smalti.predict.loading import Execution, exported_card, load, load_with_card
from smalti.predict.predictor import Predictor
from smalti.predict.runtimes import OpenVinoRuntime, TorchRuntime, read_exported_card
from smalti.recipe import DataRecipe, InputPolicy, Recipe

ODD = [(1, 1), (33, 17), (64, 96), (75, 141)]

TRUSTED = Execution(trust=True)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    model = create_model("sis_cnn", classes=("sky", "road", "car"), encoder="resnet10t", widths=(8, 8, 8, 8)).eval()
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):  # as after training: not the identity
            torch.nn.init.uniform_(layer.running_var, 0.5, 1.5)
            torch.nn.init.normal_(layer.running_mean, std=0.3)
    return model


@pytest.fixture(scope="module")
def card(network):
    recipe = Recipe(name="tiny", model="sis_cnn", config=network.config, data=DataRecipe(set="scenes"))
    return Card(recipe=recipe, labels=network.labels, metrics={}, version="0.1.0", terms="for tests only")


@pytest.fixture(scope="module")
def program(network, card):
    return to_program(network, card.recipe.input)


@pytest.fixture(scope="module")
def written(program, card, tmp_path_factory):
    """The files, written once."""
    folder, files = tmp_path_factory.mktemp("exported"), {}
    for to, form in FORMS.items():
        files[to] = folder / f"net{form.ending}"
        form.of(program).write(files[to], exported_card(card, to, program.outputs))
    return files


@pytest.mark.parametrize(("to", "runtime"), [
    ("onnx", "onnx"), ("onnx", "openvino"), ("openvino", "openvino"), ("torch", "torch"),
])  # fmt: skip
def test_every_runtime_answers_as_torch_at_any_size(network, written, to, runtime):
    reference = Predictor(network, InputPolicy(), TorchRuntime(network, "float32", "cpu"))
    predictor = load(written[to], Execution(runtime=runtime, precision="float32", trust=True))
    rng = np.random.default_rng(0)
    for size in ODD:
        picture = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        wanted, got = reference(picture), predictor(picture)
        torch.testing.assert_close(got.probabilities, wanted.probabilities, atol=1e-4, rtol=0)
    batch = torch.from_numpy(rng.integers(0, 256, (3, 3, 64, 32), dtype=np.uint8))
    torch.testing.assert_close(
        predictor.runtime(batch).semantic, reference.runtime(batch).semantic, atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize(("to", "runtime"), [("onnx", "onnx"), ("openvino", "openvino"), ("torch", "torch")])
def test_pictures_side_by_side_get_their_own_answers(written, to, runtime, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    one, many = (
        load(written[to], Execution(runtime=runtime, precision="float32", side_by_side=side, trust=True))
        for side in (False, True)
    )
    assert one.at_once == 1
    assert (1 if to == "torch" else 2) <= many.at_once <= 4
    pictures = [torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8) for _ in range(24)]
    with ThreadPoolExecutor(many.at_once) as threads:
        found = list(threads.map(many, pictures))
    for picture, answer in zip(pictures, found, strict=True):
        torch.testing.assert_close(answer.probabilities, one(picture).probabilities, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("to", FORMS)
def test_a_predictor_sent_to_another_process_opens_its_file_again(written, to, monkeypatch, tmp_path):
    monkeypatch.chdir(written[to].parent)
    predictor = load(written[to].name, Execution(precision="float32", trust=True))
    pickled = pickle.dumps(predictor)
    monkeypatch.chdir(tmp_path)
    again = pickle.loads(pickled)
    picture = torch.randint(0, 256, (3, 33, 17), dtype=torch.uint8)
    torch.testing.assert_close(again(picture).probabilities, predictor(picture).probabilities)
    assert again.runtime.name == predictor.runtime.name


@pytest.mark.parametrize("to", FORMS)
def test_the_card_travels_and_decoding_needs_no_weights(written, card, to):
    predictor, found = load_with_card(written[to], TRUSTED)
    assert found.labels == card.labels
    assert found.recipe.config == card.recipe.config
    assert found.terms == "for tests only"
    assert found.export["outputs"] == ["semantic"]
    assert all(parameter.device.type == "meta" for parameter in predictor.model.parameters())


def test_a_fixed_input_policy_fixes_the_size(network):
    program = to_program(network, InputPolicy(fit="stretch", size=(48, 40)))
    (first,) = program.graph.graph_signature.user_inputs
    shape = next(node.meta["val"].shape for node in program.graph.graph.nodes if node.name == first)
    assert tuple(shape[1:]) == (3, 48, 48)  # 40 padded to the stride of 16
    assert not isinstance(shape[0], int)


def test_what_is_no_file_of_ours_is_refused(tmp_path):
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    value = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
    foreign = tmp_path / "foreign.onnx"
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([node], "g", value[:1], value[1:])), foreign)
    with pytest.raises(ValueError, match=r"foreign\.onnx: has no card of this package inside"):
        load(foreign)
    (tmp_path / "alone.xml").write_bytes(b"a graph")
    with pytest.raises(ValueError, match=r"alone\.xml: its weights, alone\.bin, must lie beside it"):
        load(tmp_path / "alone.xml")
    (tmp_path / "broken.bin").touch()
    for name in ("broken.onnx", "broken.xml", "broken.pt2"):
        (tmp_path / name).write_bytes(b"half a file")
        with pytest.raises(ValueError, match=f"{name}: "):
            load(tmp_path / name, TRUSTED)
        with pytest.raises(ValueError, match="no such file"):
            load(tmp_path / f"not_there_{name}", TRUSTED)


def test_a_newer_version_is_named(written, card, tmp_path):
    model = onnx.load(written["onnx"])
    newer = {**card.to_json(), "format": FORMAT + 1, "version": "9.9.9"}
    model.metadata_props[0].value = json.dumps(newer)
    onnx.save(model, tmp_path / "newer.onnx")
    with pytest.raises(ValueError, match=r"made by smalti 9\.9\.9, which is newer than this one"):
        read_exported_card(tmp_path / "newer.onnx")


@pytest.mark.parametrize(
    ("export", "message"),
    [
        ({}, 'needs the key "outputs"'),
        ({"outputs": ["semantic"]}, 'needs the key "precision"'),
        ({"outputs": "semantic", "precision": "float32"}, "outputs: must be a list of values"),
        ({"outputs": ["semantics"], "precision": "float32"}, 'unknown output "semantics": did you mean "semantic"'),
    ],
)
def test_a_card_that_does_not_say_how_it_was_exported(card, tmp_path, export, message):
    nothing = onnx.helper.make_graph([], "nothing", [], [])
    model = onnx.helper.make_model(nothing)
    onnx.helper.set_model_props(model, {CARD: json.dumps({**card.to_json(), "export": export})})
    onnx.save(model, tmp_path / "net.onnx")
    with pytest.raises(ValueError, match=rf"net\.onnx: its card does not say how it was exported.*{message}"):
        read_exported_card(tmp_path / "net.onnx")


def test_changes_and_runtimes_that_a_file_cannot_have(written):
    with pytest.raises(ValueError, match="answers as it was exported"):
        load(written["onnx"], changes={"config.output_stride": 16})
    with pytest.raises(ValueError, match="runs in openvino, not in onnx"):
        load(written["openvino"], Execution(runtime="onnx"))
    with pytest.raises(ValueError, match="leave it out with runtime onnx"):
        Execution(runtime="onnx", device="cuda")


@pytest.mark.slow
@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_eight_bits(program, card, written, tmp_path, to):
    pictures = [torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8) for _ in range(4)]
    form = FORMS[to].of(program).quantised(pictures)
    path = tmp_path / f"small{FORMS[to].ending}"
    form.write(path, exported_card(card, to, program.outputs, "int8"))
    whole, small = load(written[to], TRUSTED), load(path, TRUSTED)
    assert small.runtime.precision == "int8"
    differences = (whole.runtime(pictures[0][None]).semantic - small.runtime(pictures[0][None]).semantic).abs()
    spread = float(whole.runtime(pictures[0][None]).semantic.std())
    assert 0 < float(differences.mean()) < 0.5 * spread  # otherwise than in float, and not by much
    with pytest.raises(ValueError, match="--int8 is made for"):
        FORMS["torch"].of(program).quantised(pictures)


def test_labels_of_wide_tables_travel(network, tmp_path):
    """Ids above 255 and things are part of the class table in the file."""
    labels = LabelSet(
        names=("a", "b", "c"), ids=(7, 300, 9), colors=((1, 2, 3), (4, 5, 6), (7, 8, 9)), things=frozenset("b")
    )
    recipe = Recipe(name="tiny", model="sis_cnn", config=network.config, data=DataRecipe(set="scenes"))
    program = to_program(network, InputPolicy())
    path = tmp_path / "wide.pt2"
    FORMS["torch"].of(program).write(
        path, exported_card(Card(recipe=recipe, labels=labels, metrics={}), "torch", program.outputs)
    )
    assert load(path, TRUSTED).labels == labels


def test_padding_of_odd_sizes_is_known_to_openvino():
    """TensorFlow's depends on the size."""

    class Strided(torch.nn.Sequential):
        def forward(self, images):
            return super().forward(images.float())

    layer = SameConv2d.taking_over(Conv2dSame(3, 4, 3, stride=2))
    dynamic = (dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC),)
    pictures = torch.zeros(2, 3, 65, 84, dtype=torch.uint8)
    program = Program(
        graph=torch.export.export(Strided(layer), (pictures,), dynamic_shapes=dynamic), outputs=("semantic",)
    )
    compiled = openvino.compile_model(OpenVinoForm.of(program).model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for size in ((33, 18), (64, 47)):
        picture = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8)
        found = torch.from_numpy(compiled(picture.numpy())[0])
        torch.testing.assert_close(found, layer(picture.float()), atol=1e-3, rtol=1e-4)


def test_unpooling_in_openvino_at_tiny_and_large_sizes():
    """OpenVINO's own pooling refuses single rows, and its own unpooling loses count in large maps."""
    torch.manual_seed(0)
    model = create_model("hourglass", classes=("sky", "road"), encoder="vgg11_bn", upsample="unpool").eval()
    form = OpenVinoForm.of(to_program(model, InputPolicy()))
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = openvino.compile_model(form.model, "CPU", options)
    for size in ((1, 1), (16, 50), (33, 40), (360, 480)):
        picture = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8)
        with torch.no_grad():
            wanted = model(picture).semantic
        found = torch.from_numpy(compiled(picture.numpy())["semantic"])
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4 * float(wanted.abs().max()))


def test_errors_that_openvino_swallows_are_noticed(monkeypatch, tmp_path):
    """On one thread it answers what it did before: here of a pooling that it refuses for single rows."""
    monkeypatch.setattr(
        indexed_vgg, "_pool", lambda x: torch.nn.functional.max_pool2d(x, 2, 2, ceil_mode=True, return_indices=True)
    )
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    model = create_model("hourglass", classes=("sky", "road"), encoder="vgg11_bn", upsample="unpool").eval()
    recipe = Recipe(name="tiny", model="hourglass", config=model.config, data=DataRecipe(set="scenes"))
    program, path = to_program(model, InputPolicy()), tmp_path / "net.xml"
    card = exported_card(Card(recipe=recipe, labels=model.labels, metrics={}), "openvino", program.outputs)
    OpenVinoForm.of(program).write(path, card)
    runtime = OpenVinoRuntime(path, card, "float32")
    for size in ((96, 33), (12, 40), (1, 1)):
        images = torch.zeros(1, 3, *size, dtype=torch.uint8)
        if min(size) > 16:
            assert runtime(images).semantic.shape[-2:] == size
        else:
            with pytest.raises(RuntimeError):
                runtime(images)
