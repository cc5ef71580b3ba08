"""Seedbed beside the libraries that people use: `python -m benchmarks.NAME`, from the root of the repository."""
