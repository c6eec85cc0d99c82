"""What flows between the rooms."""

import pytest
import torch

from smalti.containers import ClassScores


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_class_scores_are_those_of_softmax(scale):
    logits = torch.randn(7, 9, 13, generator=torch.Generator().manual_seed(0)) * scale
    scores, wanted = ClassScores(logits), logits.double().softmax(0)
    torch.testing.assert_close(scores.probabilities, wanted.float(), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(scores.confidence, wanted.amax(0).float(), atol=1e-6, rtol=1e-5)
    assert scores.most_probable().dtype == torch.uint8
    assert torch.equal(scores.most_probable().long(), logits.argmax(0))
    again = ClassScores.of(scores.probabilities)
    assert torch.equal(again.most_probable(), scores.most_probable())
    assert again.probabilities is scores.probabilities


def test_of_equal_classes_the_first_counts():
    logits = torch.tensor([0.0, 2.0, 2.0, 1.0])[:, None, None].expand(4, 2, 3)
    assert (ClassScores(logits).most_probable() == 1).all()


def test_logits_stay_as_they_are():
    """They may be the network's own answer."""
    logits = torch.randn(3, 4, 5)
    before = logits.clone()
    torch.testing.assert_close(ClassScores(logits).probabilities.sum(0), torch.ones(4, 5))
    assert torch.equal(logits, before)
