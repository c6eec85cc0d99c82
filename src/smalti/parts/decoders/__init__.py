"""From the pyramid of an encoder back to pixels."""
