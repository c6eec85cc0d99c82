"""From samples to the truth that a model asks for; nothing of it is ever stored on the disk."""

from collections.abc import Sequence

from smalti.containers import Sample, Targets, stack_padding, stack_semantic

DERIVED = frozenset({"semantic", "padding"})


def derive_targets(samples: Sequence[Sample], needs: frozenset[str]) -> Targets:
    """Targets of samples of one size; only what `needs` names is filled in. A missing mask is ignored everywhere."""
    assert needs <= DERIVED, f"no rule derives {sorted(needs - DERIVED)}"
    assert len({sample.size for sample in samples}) == 1, "samples of one batch have one size"
    size = samples[0].size
    return Targets(
        semantic=stack_semantic([sample.semantic for sample in samples], size) if "semantic" in needs else None,
        padding=stack_padding([sample.padding for sample in samples], size) if "padding" in needs else None,
    )
