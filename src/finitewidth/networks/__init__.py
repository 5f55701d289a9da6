"""Descriptions of architectures and of their priors."""

from finitewidth.networks.base import Network
from finitewidth.networks.fully_connected import FullyConnected
from finitewidth.networks.local import Convolutional, LocallyConnected, LocalNetwork
from finitewidth.networks.patches import PatchGrid
from finitewidth.networks.stack import LayeredNetwork

__all__ = [
    "Convolutional",
    "FullyConnected",
    "LayeredNetwork",
    "LocalNetwork",
    "LocallyConnected",
    "Network",
    "PatchGrid",
]
