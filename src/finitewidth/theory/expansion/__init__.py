"""Exact to first order in 1/N: errors and evidence of wide networks on given data (docs/first_order.md)."""

from finitewidth.theory.expansion.first_order import EvidenceSlope, FirstOrderSlopes, Slope, first_order
from finitewidth.theory.expansion.method import FirstOrder

__all__ = ["EvidenceSlope", "FirstOrder", "FirstOrderSlopes", "Slope", "first_order"]
