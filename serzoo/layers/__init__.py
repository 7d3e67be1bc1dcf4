"""Layers that models share or that are worth testing alone."""
