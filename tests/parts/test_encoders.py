import huggingface_hub
import pytest
import safetensors.torch
import timm
import torch

from smalti.parts.encoders.imagenet import WeightsNotFoundError, local_imagenet_weights, read_tensors
from smalti.parts.encoders.timm_encoder import TimmEncoder


@pytest.mark.parametrize(
    "name", ["resnet18", "vgg11", "tf_efficientnet_lite0", "convnext_atto", "mobilenetv3_small_100"]
)
def test_the_pyramid_is_what_it_says(name):
    encoder = TimmEncoder(name).eval()
    size = (64, 96)
    maps = encoder(torch.randn(1, 3, *size))
    assert [m.shape[1] for m in maps] == list(encoder.channels)
    assert [tuple(m.shape[-2:]) for m in maps] == [(size[0] // r, size[1] // r) for r in encoder.reductions]


@pytest.mark.parametrize("stride", [8, 16])
def test_output_stride(stride):
    encoder = TimmEncoder("resnet18", output_stride=stride).eval()
    assert encoder.reductions[-1] == stride
    assert encoder(torch.zeros(1, 3, 64, 64))[-1].shape[-1] == 64 // stride


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "tf_efficientnet_lite2"])
def test_packaged_weights_are_complete_and_where_timm_wants_them(name):
    packaged = local_imagenet_weights(name)
    own = timm.create_model(name).state_dict()
    assert packaged.keys() == own.keys()
    assert all(packaged[k].shape == own[k].shape for k in own)
    encoder = TimmEncoder(name, weights="imagenet")
    torch.testing.assert_close(encoder.network.conv_stem.weight, packaged["conv_stem.weight"])
    last = "blocks.6.0.conv_pwl.weight"
    torch.testing.assert_close(encoder.network.state_dict()[last], packaged[last])
    assert encoder.mean == (0.5, 0.5, 0.5)


def test_renaming_keeps_the_packages_own_order():
    """Oracle: both networks list their tensors in the order of computation, so names must meet position by position."""
    name = "tf_efficientnet_lite0"
    assert list(local_imagenet_weights(name)) == list(timm.create_model(name).state_dict())


def test_a_file_and_the_folder(tmp_path, monkeypatch):
    weights = timm.create_model("resnet18").state_dict()
    safetensors.torch.save_file(weights, tmp_path / "resnet18.safetensors")
    from_file = TimmEncoder("resnet18", weights=tmp_path / "resnet18.safetensors")
    torch.testing.assert_close(from_file.network.conv1.weight, weights["conv1.weight"])
    monkeypatch.setenv("SMALTI_WEIGHTS", str(tmp_path))
    from_folder = TimmEncoder("resnet18", weights="imagenet")
    torch.testing.assert_close(from_folder.network.layer4[1].conv2.weight, weights["layer4.1.conv2.weight"])


def test_weights_for_three_channels_serve_others(tmp_path):
    weights = timm.create_model("resnet18").state_dict()
    torch.save(weights, tmp_path / "resnet18.pth")
    encoder = TimmEncoder("resnet18", in_channels=4, weights=tmp_path / "resnet18.pth")
    assert encoder.network.conv1.weight.shape[1] == 4
    assert len(encoder.mean) == 4


def test_no_weights_says_the_four_ways(monkeypatch):
    monkeypatch.delenv("SMALTI_WEIGHTS", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(WeightsNotFoundError, match="Four ways") as caught:
        TimmEncoder("resnet18", weights="imagenet")
    for way in ("(1)", "SMALTI_WEIGHTS", "tf_efficientnet_lite0", "hub"):
        assert way in str(caught.value)


def test_the_hub_is_asked_when_it_answers(monkeypatch):
    asked = {}

    class Session:
        def head(self, url, timeout):
            asked["endpoint"] = url

    original = timm.create_model

    def create(name, pretrained=False, **options):
        asked["pretrained"] = pretrained
        return original(name, pretrained=False, **options)

    monkeypatch.delenv("SMALTI_WEIGHTS", raising=False)
    monkeypatch.setattr("smalti.parts.encoders.timm_encoder.get_session", Session)
    monkeypatch.setattr(timm, "create_model", create)
    TimmEncoder("resnet18", weights="imagenet")
    assert asked["pretrained"] is True
    assert asked["endpoint"].startswith("https://")


def test_bad_names_and_files(tmp_path):
    with pytest.raises(ValueError, match="did you mean .*resnet50"):
        TimmEncoder("resnet5O")
    with pytest.raises(ValueError, match="output_stride must be one of"):
        TimmEncoder("resnet18", output_stride=4)
    with pytest.raises(ValueError, match="no feature pyramid with output stride 8"):
        TimmEncoder("vgg11", output_stride=8)
    with pytest.raises(ValueError, match="no such weights file"):
        TimmEncoder("resnet18", weights=tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="cannot be read as weights"):
        TimmEncoder("resnet18", weights=tmp_path / "bad.safetensors")
    safetensors.torch.save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="do not fit"):
        TimmEncoder("resnet18", weights=tmp_path / "other.safetensors")


def test_files_that_would_run_code_are_refused(tmp_path):
    import pickle

    class Evil:
        def __reduce__(self):
            return (print, ("run",))

    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"x": Evil()}))
    with pytest.raises(ValueError, match="cannot be read as weights"):
        read_tensors(tmp_path / "evil.pth")


@pytest.mark.parametrize("name", ["convnext_atto", "swin_tiny_patch4_window7_224"])
def test_a_pyramid_with_fewer_maps_says_what_to_do(name):
    with pytest.raises(ValueError, match=r"no feature pyramid of 5 maps.*config\.widths"):
        TimmEncoder(name, taps=5)
    assert len(TimmEncoder("convnext_atto", taps=4).channels) == 4


def test_networks_that_begin_at_full_size_are_no_vgg():
    encoder = TimmEncoder("dla34", taps=4)
    maps = encoder(torch.zeros(1, 3, 64, 96))
    assert [m.shape[1] for m in maps] == list(encoder.channels)
    assert [64 // m.shape[2] for m in maps] == list(encoder.reductions)


def test_weights_of_an_earlier_download_do_without_the_hub(monkeypatch):
    monkeypatch.setattr("smalti.parts.encoders.timm_encoder._hub_answers", lambda: False)
    seen = []

    def create(name, **options):
        seen.append((options["pretrained"], huggingface_hub.constants.HF_HUB_OFFLINE))
        return made(name, pretrained=False, **{k: v for k, v in options.items() if k != "pretrained"})

    made = timm.create_model
    monkeypatch.setattr(timm, "create_model", create)
    TimmEncoder("resnet18", weights="imagenet")
    assert seen == [(True, True)]
    assert not huggingface_hub.constants.HF_HUB_OFFLINE
