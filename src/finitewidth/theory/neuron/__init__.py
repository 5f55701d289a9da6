"""The self-consistent single-neuron theory: features that need not be Gaussian (docs/neuron.md)."""

from finitewidth.theory.learned import LearnedFeatures
from finitewidth.theory.neuron.options import NeuronOptions
from finitewidth.theory.neuron.single import SingleNeuron, SingleNeuronOnPatches, single_neuron

__all__ = ["LearnedFeatures", "NeuronOptions", "SingleNeuron", "SingleNeuronOnPatches", "single_neuron"]
