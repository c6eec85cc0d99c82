"""From a network to files that other runtimes take."""
