"""The self-consistent single-neuron theory: features that need not be Gaussian (docs/neuron.md)."""

from finitewidth.theory.neuron.single import SingleNeuron

__all__ = ["SingleNeuron"]
