"""Several views of one picture (mirrored, larger, smaller) for one answer: slower, and a little better."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from jaxtyping import Float, UInt8
from torch import Tensor

from smalti.containers import ClassScores, Predictions, Size
from smalti.data.augment import resize_picture
from smalti.models.contract import resize

Predict = Callable[[UInt8[Tensor, "3 height width"]], Predictions]
AVERAGED = ("probabilities", "edges", "distances", "difficulty")
SMALLEST, LARGEST = 0.1, 10.0


class _View(NamedTuple):
    scale: float
    mirrored: bool


@dataclass(frozen=True, kw_only=True)
class Views:
    """Every scale of the picture, and with `flip` also each mirrored left to right.

    Raises:
        ValueError: If a scale is outside 0.1 to 10 or repeats, or 1, the picture as it is, is not among them.
    """

    scales: tuple[float, ...] = (1.0,)
    flip: bool = False

    def __post_init__(self) -> None:
        wrong = [scale for scale in self.scales if not SMALLEST <= scale <= LARGEST]
        if wrong:
            raise ValueError(f"scales of views are from {SMALLEST:g} to {LARGEST:g}, got {wrong[0]:g}")
        if len(set(self.scales)) < len(self.scales):
            raise ValueError(f"each scale counts once, got {', '.join(f'{s:g}' for s in self.scales)}")
        if 1.0 not in self.scales:
            raise ValueError("the picture as it is must be among the views (objects come from it): add the scale 1")

    @classmethod
    def parse(cls, text: str) -> "Views":
        """Of a command line: scales and the word "flip" with commas between, like "0.75,1,1.25,flip" or "flip".

        Raises:
            ValueError: For anything else.
        """
        words = [word.strip() for word in text.split(",")]
        numbers = [word for word in words if word != "flip"]
        if len(words) - len(numbers) > 1:
            raise ValueError(f'views "{text}": "flip" is said once')
        try:
            scales = tuple(float(word) for word in numbers)
        except ValueError:
            raise ValueError(f'views are scales and "flip", like "0.75,1,1.25,flip", got "{text}"') from None
        return cls(scales=scales or (1.0,), flip="flip" in words)

    def __len__(self) -> int:
        return len(self.scales) * (2 if self.flip else 1)

    def _others(self) -> Iterator[_View]:
        """All but the picture as it is."""
        for scale in sorted(self.scales, key=lambda scale: scale != 1):
            for mirrored in (False, True) if self.flip else (False,):
                if (scale, mirrored) != (1.0, False):
                    yield _View(scale, mirrored)


def predict_views(predict: Predict, picture: UInt8[Tensor, "3 height width"], views: Views) -> Predictions:
    """The mean of the views' maps in the picture's own pixels, and the classes that are most probable in it.

    Objects, and the two branches of a cascade, are those of the picture as it is. Needs the memory of the largest view
    and of one more answer, however many views there are.
    """
    answer = predict(picture)
    if len(views) == 1:
        return answer
    sums: dict[str, Tensor] = {}
    for name in AVERAGED:
        plain = getattr(answer, name)
        if plain is not None:
            sums[name] = plain.clone()
    size = (int(picture.shape[-2]), int(picture.shape[-1]))
    for view in views._others():
        seen = predict(_seen(picture, view))
        for name, total in sums.items():
            total.add_(_back(getattr(seen, name), view, size))
    return _with_means(answer, {name: total.div_(len(views)) for name, total in sums.items()})


def _seen(picture: Tensor, view: _View) -> Tensor:
    height, width = (max(1, round(side * view.scale)) for side in picture.shape[-2:])
    scaled = resize_picture(picture, (height, width))
    return scaled.flip(-1) if view.mirrored else scaled


def _back(maps: Float[Tensor, "*maps _ _"], view: _View, size: Size) -> Float[Tensor, "*maps height width"]:
    upright = maps.flip(-1) if view.mirrored else maps
    return resize(upright.reshape(1, -1, *upright.shape[-2:]), size)[0].reshape(*maps.shape[:-2], *size)


def _with_means(answer: Predictions, means: dict[str, Tensor]) -> Predictions:
    if "probabilities" in means:
        scores = ClassScores.of(means.pop("probabilities"))
        answer = replace(answer, semantic=scores.most_probable(), scores=scores)
    return replace(answer, **means)  # type: ignore[arg-type]
