"""Boxes: defaults, matching with the truth, and back."""
