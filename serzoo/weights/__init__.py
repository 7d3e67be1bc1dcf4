"""Pretrained weights, their model cards, and weights that were trained elsewhere."""
