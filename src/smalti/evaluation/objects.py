"""What is measured of objects, edges and distances, where the network answers them and the data has their truth."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int32
from torch import Tensor

from smalti.containers import Instances, Predictions, Sample
from smalti.data.derive import sample_objects
from smalti.draw.boxes import SURE, draw_boxes
from smalti.draw.objects import draw_objects
from smalti.draw.overlay import Picture
from smalti.geometry.boxes import object_boxes, object_classes
from smalti.geometry.distances import Norm, instance_distances
from smalti.geometry.edges import label_edges
from smalti.labels import IGNORED, LabelSet
from smalti.metrics.boxes import BoxAP
from smalti.metrics.cityscapes_ap import CityscapesAP
from smalti.metrics.distances import DistanceError
from smalti.metrics.edges import EdgeF
from smalti.metrics.instances import COCO_LIMIT, MaskAP, object_limit
from smalti.metrics.panoptic import PanopticQuality
from smalti.models.contract import ObjectLimits


@dataclass(frozen=True, kw_only=True)
class ObjectMap:
    """Objects of a picture: a map of their numbers from 1 (0 = none), and their label ids."""

    ids: Int32[np.ndarray, "height width"]
    classes: Sequence[int]


@dataclass(frozen=True, kw_only=True)
class ObjectCounts:
    """True objects without crowds, of each image and of each image and class, and the objects that count in AP."""

    limit: int
    of_images: Counter[int]
    of_classes: Counter[tuple[int, int]]

    def protocol(self) -> str:
        """The limit in words."""
        most = max(self.of_images.values(), default=0)
        return (f"AP: at most {self.limit} objects an image and class, those with the highest scores (COCO: "
                f"{COCO_LIMIT}); an image has up to {most} true objects")  # fmt: skip

    def notes(self, network: ObjectLimits | None) -> list[str]:
        """Which limits keep true objects from being found."""
        lines = []
        if beyond := {image for (image, _), count in self.of_classes.items() if count > self.limit}:
            lines.append(
                f"AP counts at most {self.limit} objects an image and class, and {len(beyond)} images have more of a "
                "class: --max-objects raises the limit"
            )
        if network is not None:
            crowded = {image for image, count in self.of_images.items() if count > network.total}
            crowded |= {image for (image, _), count in self.of_classes.items() if count > network.each_class}
            if crowded:
                lines.append(
                    f"the network returns at most {network.total} objects an image, {network.each_class} of a class, "
                    f"and {len(crowded)} images have more: raise {network.settings} with --set"
                )
        return lines


class ObjectMeasures:
    """Edges, distances and objects of a split; what was never answered, or has no truth, is left out."""

    def __init__(self, labels: LabelSet, norm: Norm, max_objects: int | None = None) -> None:
        """`norm` of the distances, as the network learned them; `max_objects` that count, see `object_limit`."""
        self.labels, self.norm = labels, norm
        self.is_thing = labels.is_thing()
        self.edges, self.distances = EdgeF(), DistanceError()
        self.mask_ap, self.cityscapes = MaskAP(labels, max_objects), CityscapesAP(labels)
        self.panoptic = PanopticQuality(labels)
        self.boxes = BoxAP(labels, max_objects)
        self.seen: set[str] = set()

    def update(self, answer: Predictions, truth: Sample) -> None:
        """Adds a picture; one without classes may have boxes."""
        if answer.instances is not None and answer.instances.masks is None:
            self._add_boxes(answer.instances, sample_objects(truth, self.is_thing))
        if truth.semantic is None:
            return
        classes = truth.semantic.as_subclass(Tensor).numpy()
        ids = None if truth.instance_ids is None else truth.instance_ids.as_subclass(Tensor).numpy()
        if answer.edges is not None:
            self.seen.add("edges")
            true_edges = label_edges(classes, ids)
            # Things that are not told apart may have edges anywhere.
            untold = self.is_thing[classes] if ids is None else self.is_thing[classes] & (ids == 0)
            true_edges[untold & (true_edges == 0)] = IGNORED
            self.edges.update(answer.edges.cpu().float().numpy(), true_edges)
        if ids is None:
            return
        of_things = self._things(classes, ids)
        if answer.distances is not None:
            self.seen.add("distances")
            true = instance_distances(of_things, self.norm)
            self.distances.update(answer.distances.cpu().float().numpy(), true, of_things > 0)
        if answer.instances is not None and answer.instances.masks is not None and answer.semantic is not None:
            self.seen.add("instances")
            self._add_objects(answer.semantic.cpu().numpy(), answer.instances, classes, of_things)

    def _things(self, classes: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """The numbers where an object of things is of its own class; its few pixels of another become no object."""
        found = object_boxes(ids)
        if not found.numbers.size:
            return ids
        own = object_classes(ids, classes)[np.searchsorted(found.numbers, ids).clip(max=len(found.numbers) - 1)]
        return np.where((own == classes) & self.is_thing[classes], ids, 0)

    def _add_objects(self, semantic: np.ndarray, found: Instances, classes: np.ndarray, ids: np.ndarray) -> None:
        assert found.masks is not None
        assert found.scores is not None
        masks, labels, scores = found.masks.cpu().numpy(), found.labels.cpu().numpy(), found.scores.cpu().numpy()
        true_masks, true_labels, crowd = _true_objects(classes, ids, self.is_thing)
        self.mask_ap.update(masks, labels, scores, true_masks=true_masks, true_classes=true_labels, crowd=crowd)
        self.cityscapes.update(masks, labels, scores, true_classes=classes, true_ids=ids)
        self.panoptic.update((semantic, found.ids()), (classes, ids))

    def _add_boxes(self, found: Instances, true: Instances | None) -> None:
        if true is None:
            return
        self.seen.add("boxes")
        self.boxes.update(found, true)

    def true_objects(self, truth: Sample) -> ObjectMap | None:
        """The things of a sample, numbered through; None if it has no objects annotated."""
        if truth.instance_ids is None or truth.semantic is None:
            return None
        classes = truth.semantic.as_subclass(Tensor).numpy()
        of_things = self._things(classes, truth.instance_ids.as_subclass(Tensor).numpy())
        _, first, places = np.unique(np.append(0, of_things), return_index=True, return_inverse=True)
        return ObjectMap(
            ids=places[1:].reshape(of_things.shape).astype(np.int32),
            classes=classes.ravel()[first[1:] - 1].tolist(),
        )

    def metrics(self) -> dict[str, Any]:
        """`edges.*`, `distances.mae`, `instances.*`, `panoptic.*`, `boxes.*`."""
        found: dict[str, Any] = {}
        if "edges" in self.seen:
            found |= self.edges.metrics()
        if "distances" in self.seen:
            found |= self.distances.metrics()
        if "instances" in self.seen:
            found |= self.mask_ap.metrics() | self.cityscapes.metrics() | self.panoptic.metrics()
        if "boxes" in self.seen:
            found |= self.boxes.metrics()
        return found

    def counted(self) -> ObjectCounts | None:
        """How many objects the truth has, and how many count in COCO's AP; None if no objects were measured."""
        ap = next((ap for kind, ap in (("boxes", self.boxes), ("instances", self.mask_ap)) if kind in self.seen), None)
        if ap is None:
            return None
        told_apart = [entry for entry in ap.truth if not entry["iscrowd"]]
        return ObjectCounts(
            limit=object_limit(ap.truth, ap.max_objects),
            of_images=Counter(entry["image_id"] for entry in told_apart),
            of_classes=Counter((entry["image_id"], entry["category_id"]) for entry in told_apart),
        )

    def drawings(self, picture: Picture, answer: Predictions, truth: Sample) -> list[tuple[str, Picture]]:
        """True objects and those found, drawn, with a caption; none where the network answers no objects."""
        if answer.instances is None:
            return []
        drawn = []
        labels, classes = self.labels, answer.instances.labels.tolist()
        if answer.instances.masks is not None:
            true = self.true_objects(truth)
            if true is not None:
                drawn.append(
                    (f"true objects: {len(true.classes)}", draw_objects(picture, true.ids, true.classes, labels))
                )
            ids = answer.instances.ids()
            return [*drawn, (f"objects found: {len(classes)}", draw_objects(picture, ids, classes, labels))]
        boxes = sample_objects(truth, self.is_thing)
        if boxes is not None:
            corners = boxes.boxes.as_subclass(Tensor).numpy()
            drawn.append((f"true boxes: {len(boxes)}", draw_boxes(picture, corners, boxes.labels.tolist(), labels)))
        scores = [] if answer.instances.scores is None else answer.instances.scores.tolist()
        found = draw_boxes(picture, answer.instances.boxes.cpu().numpy(), classes, labels, scores)
        return [*drawn, (f"boxes found of at least {100 * SURE:.0f} %: {sum(s >= SURE for s in scores)}", found)]


def _true_objects(
    classes: np.ndarray, ids: np.ndarray, is_thing: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Masks, classes and whether it is a crowd: pixels of a thing class that belong to no object."""
    keys = np.where(is_thing[classes], classes.astype(np.int64) << 32 | ids, -1)
    wanted = np.unique(keys)
    wanted = wanted[wanted >= 0]
    masks = keys[None] == wanted[:, None, None]
    return masks, wanted >> 32, (wanted & 0xFFFFFFFF) == 0
