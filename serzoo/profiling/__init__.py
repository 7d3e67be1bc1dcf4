"""Measure the cost of a model on this machine, next to the machine's own ceilings."""

from serzoo.profiling.benchmark import profile
from serzoo.profiling.costs import Ceilings, ProductRate, Profile

__all__ = ["Ceilings", "ProductRate", "Profile", "profile"]
