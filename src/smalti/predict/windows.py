"""Rectangular parts of a picture."""

from typing import NamedTuple

from torch import Tensor


class Window(NamedTuple):
    """Rows `top` to `bottom` and columns `left` to `right`, the ends excluded."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        """0 if nothing is in it."""
        return max(0, self.bottom - self.top)

    @property
    def width(self) -> int:
        """0 if nothing is in it."""
        return max(0, self.right - self.left)

    @property
    def area(self) -> int:
        """In pixels."""
        return self.height * self.width

    @property
    def slices(self) -> tuple[slice, slice]:
        """For indexing."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def of(self, maps: Tensor) -> Tensor:
        """This part of them; not a copy."""
        return maps[(..., *self.slices)]

    def inside(self, other: "Window") -> "Window":
        """The same place, counted from the other's corner."""
        return self.moved(-other.top, -other.left)

    def moved(self, down: int, right: int) -> "Window":
        """Somewhere else."""
        return Window(self.top + down, self.left + right, self.bottom + down, self.right + right)

    def common(self, other: "Window") -> "Window":
        """What is in both."""
        return Window(
            max(self.top, other.top),
            max(self.left, other.left),
            min(self.bottom, other.bottom),
            min(self.right, other.right),
        )
