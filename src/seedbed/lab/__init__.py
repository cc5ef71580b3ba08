"""Experiments: one question a file, answered by training."""
