"""Blocks that look far around a pixel."""
