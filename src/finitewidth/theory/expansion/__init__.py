"""Exact to first order in 1/N: errors and evidence of wide networks on given data (docs/first_order.md)."""

from finitewidth.theory.expansion.evidence import EvidenceSlope, Slope
from finitewidth.theory.expansion.method import FirstOrder, first_order
from finitewidth.theory.expansion.slopes import FirstOrderSlopes

__all__ = ["EvidenceSlope", "FirstOrder", "FirstOrderSlopes", "Slope", "first_order"]
