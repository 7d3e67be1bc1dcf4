"""Weights that were trained elsewhere, and those that come with the package."""
