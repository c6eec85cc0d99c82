"""Building blocks by kind: tensors in, tensors out."""
