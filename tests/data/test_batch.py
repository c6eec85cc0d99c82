import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms
from torchvision.tv_tensors import Image

from fake_datasets import write_folder
from samples import make, plain
from smalti.containers import Frame, Sample
from smalti.data.batch import collate
from smalti.data.cache import CachedDataset
from smalti.data.dataset import CountIgnored, open_dataset
from smalti.data.derive import derive_targets
from smalti.data.fit import fit_picture, fit_sample
from smalti.data.statistics import pixel_counts
from smalti.models.contract import to_original
from smalti.recipe import InputPolicy

SEMANTIC = frozenset({"semantic"})
STRETCH, CROP = InputPolicy(fit="stretch", size=(16, 48)), InputPolicy(fit="crop", size=(16, 48))


def test_padding_to_the_stride():
    sample = make((360 // 8, 480 // 8))
    fitted, frame = fit_sample(sample, InputPolicy(), 32)
    assert frame == Frame(original=(45, 60), resized=(45, 60), padded=(64, 64))
    for after, before, fill in zip(plain(fitted), plain(sample), (0, 255, 0), strict=True):
        assert torch.equal(after, F.pad(before, (0, 4, 0, 19), value=fill))


def test_nothing_to_pad_costs_nothing():
    image = make((64, 96)).image
    fitted, frame = fit_picture(image, InputPolicy(), 32)
    assert fitted.data_ptr() == image.data_ptr()
    assert frame == Frame.whole((64, 96))


def test_padding_with_a_longest_side():
    _, frame = fit_picture(make((30, 60)).image, InputPolicy(size=(10, 40)), 8)
    assert frame == Frame(original=(30, 60), resized=(20, 40), padded=(24, 40))


def test_stretching():
    sample = make((20, 30))
    fitted, frame = fit_sample(sample, STRETCH, 16)
    assert frame == Frame(original=(20, 30), resized=(16, 48), padded=(16, 48))
    expected = transforms.resize(sample.image, [16, 48], antialias=False)
    assert torch.equal(plain(fitted)[0], expected.as_subclass(Tensor))
    nearest = F.interpolate(plain(sample)[2][None, None].double(), (16, 48), mode="nearest-exact")[0, 0]
    assert torch.equal(plain(fitted)[2].double(), nearest)


def test_stretching_to_a_size_that_the_stride_does_not_divide():
    fitted, frame = fit_sample(make((20, 30)), STRETCH, 32)
    assert frame == Frame(original=(20, 30), resized=(16, 48), padded=(32, 64))
    assert (plain(fitted)[1][16:] == 255).all()
    assert (plain(fitted)[1][:16, :48] != 255).all()


def test_cropping_takes_the_centre_and_pads_what_is_smaller():
    sample = make((20, 30))
    fitted, frame = fit_sample(sample, CROP, 16)
    assert frame == Frame(original=(20, 30), resized=(16, 48), padded=(16, 48), cropped=True)
    image, semantic, _ = plain(fitted)
    assert torch.equal(image[:, :, :30], plain(sample)[0][:, 2:18])
    assert torch.equal(semantic[:, :30], plain(sample)[1][2:18])
    assert (semantic[:, 30:] == 255).all()


@given(
    height=st.integers(1, 50), width=st.integers(1, 50), stride=st.sampled_from([1, 8, 32]),
    policy=st.sampled_from([InputPolicy(), STRETCH, CROP, InputPolicy(size=(20, 20))]),
)  # fmt: skip
@settings(max_examples=80, deadline=None)
def test_the_way_back_leads_to_the_same_pixels(height, width, stride, policy):
    """A smooth ramp goes into the network's size and back by the models' own `to_original`."""
    ramp = torch.linspace(0, 200, height)[:, None] + torch.linspace(0, 50, width)
    image = ramp.round().to(torch.uint8).expand(3, height, width).contiguous()
    fitted, frame = fit_picture(image, policy, stride)
    assert fitted.shape[-2] % stride == 0
    assert fitted.shape[-1] % stride == 0
    assert frame.padded == tuple(fitted.shape[-2:])
    back = to_original(fitted.float(), frame)
    assert back.shape == image.shape
    if frame.cropped:
        top, left = max(0, height - 16) // 2, max(0, width - 48) // 2
        inside = (slice(None), slice(top, top + min(height, 16)), slice(left, left + min(width, 48)))
        assert torch.equal(back[inside], image[inside].float())
    elif frame.resized == frame.original:
        assert torch.equal(back, image.float())
    else:
        step = max(200 / max(height - 1, 1), 200 / 20) + max(50 / max(width - 1, 1), 50 / 20)
        assert (back - image).abs().max() <= 2 * step + 2


def test_uint16_pictures_are_fitted():
    image = (make((20, 30)).image.as_subclass(Tensor).int() * 257).to(torch.uint16)
    for policy in (InputPolicy(), STRETCH, CROP):
        fitted, frame = fit_picture(image, policy, 32)
        assert fitted.dtype == torch.uint16
        assert tuple(fitted.shape[-2:]) == frame.padded


def test_collate_pads_to_the_largest():
    samples = [make((10, 20), 1), make((12, 16), 2)]
    batch = collate(samples, None, SEMANTIC)
    assert batch.images.shape == (2, 3, 12, 20)
    assert type(batch.images) is Tensor
    assert batch.names == ("x", "x")
    assert [f.original for f in batch.frames] == [(10, 20), (12, 16)]
    assert {f.padded for f in batch.frames} == {(12, 20)}
    assert batch.targets.semantic.dtype == torch.int64
    for k, sample in enumerate(samples):
        height, width = sample.size
        image, semantic, _ = plain(sample)
        assert torch.equal(batch.images[k], F.pad(image, (0, 20 - width, 0, 12 - height)))
        expected = F.pad(semantic.long(), (0, 20 - width, 0, 12 - height), value=255)
        assert torch.equal(batch.targets.semantic[k], expected)


def test_frames_keep_the_way_back_when_the_batch_pads_more():
    fitted, frames = zip(*(fit_sample(make(s), InputPolicy(), 8) for s in ((10, 20), (17, 9))), strict=True)
    batch = collate(fitted, frames, SEMANTIC)
    for k, frame in enumerate(batch.frames):
        back = to_original(batch.images[k].float(), frame)
        assert torch.equal(back, plain(make(frame.original))[0].float())


def test_a_batch_may_mix_pictures_with_and_without_masks():
    bare = Sample(image=make().image, name="bare")
    targets = collate([make(), bare], None, SEMANTIC).targets
    assert (targets.semantic[1] == 255).all()
    assert (targets.semantic[0] != 255).all()


def test_only_what_is_needed_is_derived():
    assert derive_targets([make()], frozenset()).semantic is None
    assert derive_targets([make()], frozenset({"edges"})).semantic is None
    with pytest.raises(AssertionError, match="horizons"):
        derive_targets([make()], frozenset({"horizons"}))


def test_batches_that_cannot_be():
    with pytest.raises(ValueError, match="at least one"):
        collate([], None, SEMANTIC)
    grey = Sample(image=Image(torch.zeros(1, 24, 32, dtype=torch.uint8)), name="grey")
    with pytest.raises(ValueError, match="x: 3, grey: 1"):
        collate([make(), grey], None, SEMANTIC)


def test_pixel_counts(tmp_path, monkeypatch):
    monkeypatch.setenv("SMALTI_CACHE", str(tmp_path / "cache"))
    dataset = open_dataset("folder", root=write_folder(tmp_path / "own"), split="train", options={})
    expected = [0] * 256
    for k in range(len(dataset)):
        for value in dataset.read(k).semantic.flatten().tolist():
            expected[value] += 1
    assert pixel_counts(dataset).own == tuple(expected[:3])
    assert pixel_counts(CountIgnored(dataset)).own == (*expected[:3], expected[255])
    assert pixel_counts(CachedDataset(dataset)).own == tuple(expected[:3])
    monkeypatch.setattr(type(dataset), "read", lambda self, index: pytest.fail("counted again"))
    assert pixel_counts(dataset).own == tuple(expected[:3])


def test_padding_of_every_step_adds_up():
    """By the crop's canvas, by the network's stride and by the batch's largest picture."""
    from torchvision.tv_tensors import Mask

    cut = make((20, 30))
    padding = torch.zeros(20, 30, dtype=torch.uint8)
    padding[:, :5] = 1
    cut = Sample(image=cut.image, semantic=cut.semantic, padding=Mask(padding))
    fitted, frame = fit_sample(cut, InputPolicy(), 16)
    other, other_frame = fit_sample(make((64, 32)), InputPolicy(), 16)
    batch = collate([fitted, other], [frame, other_frame], frozenset({"semantic", "padding"}))
    expected = torch.ones(64, 32, dtype=torch.bool)
    expected[:20, 5:30] = False
    assert torch.equal(batch.targets.padding[0], expected)
    assert not batch.targets.padding[1].any()
    assert collate([fitted], [frame], SEMANTIC).targets.padding is None


def test_stretching_stretches_the_padding():
    from torchvision.tv_tensors import Mask

    padding = Mask(torch.tensor([[0, 1], [0, 1]], dtype=torch.uint8).repeat_interleave(8, 0).repeat_interleave(8, 1))
    sample = Sample(image=make((16, 16)).image, padding=padding)
    fitted, _ = fit_sample(sample, STRETCH, 16)
    assert fitted.padding.as_subclass(Tensor)[:, 24:].all()
    assert not fitted.padding.as_subclass(Tensor)[:, :24].any()
