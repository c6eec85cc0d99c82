"""Numbers from answers and truth."""
