"""From pictures to a pyramid of feature maps."""
