"""Stages of runs as tasks of a Ray cluster (``cpsd[ray]``)."""
