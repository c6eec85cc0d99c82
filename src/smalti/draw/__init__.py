"""Labels as pictures for people."""
