"""The loaders of a run: which pictures come when, as a pure function of seed and epoch."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import lightning
import torch
from torch import Tensor
from torch.utils._pytree import tree_map
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from smalti.containers import Batch, Instances, Sample
from smalti.data.augment import Augmentation
from smalti.data.batch import collate
from smalti.data.dataset import Dataset, TrainingSet
from smalti.data.derive import Things, sample_objects
from smalti.data.fit import fit_sample
from smalti.models.contract import SegmentationModel
from smalti.recipe import InputPolicy, Recipe
from smalti.training.schedule import RunLength


class EpochSampler(Sampler[tuple[int, int]]):
    """(pass, index) pairs of one epoch.

    The epochs cut one endless stream of shuffled passes over the set into pieces of `draws`, so that an epoch may be
    shorter or longer than a pass and still every picture comes equally often.
    """

    def __init__(self, length: int, draws: int, seed: int, rank: int = 0, ranks: int = 1) -> None:
        """`draws` pictures an epoch in this process; several processes share the stream without overlap."""
        self.length, self.draws, self.seed = length, draws, seed
        self.rank, self.ranks = rank, ranks
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning says which epoch comes."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.draws

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order: list[int] = []
        current = -1
        for draw in range(self.draws):
            position = (self.epoch * self.draws + draw) * self.ranks + self.rank
            number, place = divmod(position, self.length)
            if number != current:
                generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
                order, current = torch.randperm(self.length, generator=generator).tolist(), number
            yield number, order[place]


@dataclass(frozen=True, kw_only=True)
class ValidationBatch:
    """Pictures as the network takes them and as they are, and each one's truth in its own pixels."""

    batch: Batch
    pictures: tuple[Tensor, ...]
    truths: tuple[Tensor | None, ...]
    objects: tuple[Instances | None, ...] | None = None
    """In each picture's own pixels, for networks that answer boxes."""


torch.export.register_dataclass(ValidationBatch, serialized_type_name="smalti.ValidationBatch")


class ValidationSet(TorchDataset[Sample]):
    """The pictures as they are."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        return self.dataset.read(index)


@dataclass(frozen=True, kw_only=True)
class Collation:
    """Samples -> batch; picklable for loader workers."""

    needs: frozenset[str]
    stride: int
    policy: InputPolicy
    is_thing: Things

    def training(self, samples: Sequence[Sample]) -> Batch:
        """Stretched to the network's size where the policy says so; else padded to a multiple of its stride."""
        fitted = [fit_sample(sample, self.policy_while_training(), self.stride) for sample in samples]
        return collate([sample for sample, _ in fitted], [frame for _, frame in fitted], self.needs, self.is_thing)

    def policy_while_training(self) -> InputPolicy:
        """The augmentation decides the size of training pictures, unless every picture is stretched."""
        return self.policy if self.policy.fit == "stretch" else InputPolicy()

    def validation(self, samples: Sequence[Sample]) -> ValidationBatch:
        """As prediction will see them."""
        fitted = [fit_sample(sample, self.policy, self.stride) for sample in samples]
        batch = collate([sample for sample, _ in fitted], [frame for _, frame in fitted], self.needs, self.is_thing)
        truths = tuple(None if s.semantic is None else s.semantic.as_subclass(Tensor) for s in samples)
        pictures = tuple(s.image.as_subclass(Tensor) for s in samples)
        objects = tuple(sample_objects(s, self.is_thing) for s in samples) if "instances" in self.needs else None
        return ValidationBatch(batch=batch, pictures=pictures, truths=truths, objects=objects)


class DataModule(lightning.LightningDataModule):
    """Training and validation loaders of a recipe."""

    def __init__(self, recipe: Recipe, model: SegmentationModel, train: Dataset, validation: Dataset) -> None:
        """Both data sets are open; their label ids are the model's.

        Raises:
            ValueError: If an epoch would be empty.
        """
        super().__init__()
        self.recipe, self.train, self.validation = recipe, train, validation
        self.collation = Collation(
            needs=model.needs, stride=model.stride, policy=recipe.input, is_thing=model.labels.is_thing()
        )
        if len(train) < recipe.training.batch and recipe.training.steps_per_epoch is None:
            raise ValueError(
                f"the training split has {len(train)} pictures, fewer than one batch of {recipe.training.batch}: "
                f"set training.batch={len(train)} or less, or training.steps_per_epoch"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps an epoch."""
        return RunLength.of(self.recipe, len(self.train)).steps_per_epoch

    def train_dataloader(self) -> DataLoader[Any]:
        """Augmented batches in the epoch's order."""
        training = self.recipe.training
        ranks = self.trainer.world_size if self.trainer else 1
        sampler = EpochSampler(
            len(self.train),
            math.ceil(self.steps_per_epoch * training.batch * training.accumulate / ranks),
            training.seed,
            self.trainer.global_rank if self.trainer else 0,
            ranks,
        )
        if self.trainer:
            # Workers read ahead before Lightning says which epoch a continued run is in.
            sampler.set_epoch(self.trainer.global_step // self.steps_per_epoch)
        stretch = self.recipe.input.size if self.recipe.input.fit == "stretch" else None
        augmentation = Augmentation(self.recipe.augmentation, stretch, self.train.labels.background)
        views = TrainingSet(self.train, augmentation, training.seed)
        return DataLoader(
            views,
            batch_size=max(training.batch // ranks, 1),
            sampler=sampler,
            collate_fn=self.collation.training,
            drop_last=True,
            **self._workers(),
        )

    def val_dataloader(self) -> DataLoader[Any]:
        """Every validation picture once, by itself: beside a larger one it would be padded, and answered otherwise."""
        return DataLoader(
            ValidationSet(self.validation),
            batch_size=1,
            collate_fn=self.collation.validation,
            **self._workers(),
        )

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Moves every tensor of our frozen containers, which Lightning's own mover refuses."""
        return tree_map(lambda leaf: leaf.to(device, non_blocking=True) if isinstance(leaf, Tensor) else leaf, batch)

    def _workers(self) -> dict[str, Any]:
        workers = self.recipe.data.workers
        if workers == 0:
            return {"num_workers": 0}
        return {"num_workers": workers, "persistent_workers": True, "prefetch_factor": 2,
                "pin_memory": torch.cuda.is_available()}  # fmt: skip
