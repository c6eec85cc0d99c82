"""Losses: tensors in, a scalar out."""

from smalti.parts.losses.boundary import BoundaryAwareLoss as BoundaryAwareLoss
from smalti.parts.losses.boundary import BoundaryWeights as BoundaryWeights
from smalti.parts.losses.classification import cross_entropy as cross_entropy
from smalti.parts.losses.classification import focal as focal
from smalti.parts.losses.classification import online_hard_example_mining as online_hard_example_mining
from smalti.parts.losses.overlap import dice as dice
from smalti.parts.losses.overlap import jaccard as jaccard
from smalti.parts.losses.overlap import lovasz_softmax as lovasz_softmax
from smalti.parts.losses.semantic import SemanticLoss as SemanticLoss
