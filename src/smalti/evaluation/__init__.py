"""Evaluation: prediction plus metrics, and the report."""
