"""From samples to the truth that a model asks for; nothing of it is ever stored on the disk."""

from collections.abc import Sequence

from torchvision.tv_tensors import Mask

from smalti.containers import Sample, Targets, stack_semantic

DERIVED = frozenset({"semantic"})


def derive_targets(samples: Sequence[Sample], needs: frozenset[str]) -> Targets:
    """Targets of samples of one size; only what `needs` names is filled in. A missing mask is ignored everywhere."""
    assert needs <= DERIVED, f"no rule derives {sorted(needs - DERIVED)}"
    assert len({sample.size for sample in samples}) == 1, "samples of one batch have one size"
    masks: list[Mask | None] = [sample.semantic for sample in samples]
    return Targets(semantic=stack_semantic(masks, samples[0].size) if "semantic" in needs else None)
