"""Optimisers, learning-rate schedules and parameter groups."""

import math
from collections.abc import Callable

import torch
from torch import nn

from smalti.models.contract import SegmentationModel
from smalti.recipe import TrainingRecipe
from smalti.training.schedule import warmup_steps


def parameter_groups(model: SegmentationModel, recipe: TrainingRecipe) -> list[dict[str, object]]:
    """Encoder and rest, each split into weights, which decay, and biases and normalisations, which do not."""
    encoder = {id(p) for p in model.encoder_parameters()}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            groups.setdefault((id(parameter) in encoder, parameter.ndim > 1), []).append(parameter)
    slow = recipe.learning_rate if recipe.encoder_learning_rate is None else recipe.encoder_learning_rate
    return [
        {
            "params": parameters,
            "lr": slow if in_encoder else recipe.learning_rate,
            "weight_decay": recipe.weight_decay if decays else 0.0,
        }
        for (in_encoder, decays), parameters in groups.items()
    ]


def build_optimizer(model: SegmentationModel, recipe: TrainingRecipe) -> torch.optim.Optimizer:
    """The recipe's optimiser over the model's parameter groups; beta2 and eps are torch's defaults (.999, 1e-8)."""
    groups = parameter_groups(model, recipe)
    # One pass over all weights in native code: five times as fast on CPUs as torch's default.
    fused = all(p.device.type in ("cpu", "cuda") for p in model.parameters())
    optimizer: torch.optim.Optimizer
    match recipe.optimizer:
        case "adamw":
            optimizer = torch.optim.AdamW(groups, betas=(recipe.momentum, 0.999), fused=fused)
        case "adam":
            optimizer = torch.optim.Adam(groups, betas=(recipe.momentum, 0.999), fused=fused)
        case "sgd":
            optimizer = torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum, fused=fused)
    # Lightning refuses to clip gradients that a fused step might unscale; without a scaler (bfloat16) none does.
    optimizer._step_supports_amp_scaling = False
    return optimizer


def learning_rate_factor(recipe: TrainingRecipe, steps: int) -> Callable[[int], float]:
    """The factor on each group's learning rate at optimiser step 0..steps: linear warm-up, then the schedule."""
    warmup = warmup_steps(recipe, steps)
    after = max(steps - warmup, 1)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        done = min((step - warmup) / after, 1.0)
        match recipe.schedule:
            case "poly":
                return float((1.0 - done) ** recipe.poly_power)
            case "cosine":
                return 0.5 * (1.0 + math.cos(math.pi * done))
            case "step":
                return recipe.step_factor ** sum(done >= at for at in recipe.step_at)
            case "constant":
                return 1.0

    return factor
