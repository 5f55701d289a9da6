"""Descriptions of architectures and of their priors."""

from finitewidth.networks.base import Network
from finitewidth.networks.convolutional import Convolutional
from finitewidth.networks.fully_connected import FullyConnected
from finitewidth.networks.local import LocalNetwork
from finitewidth.networks.locally_connected import LocallyConnected
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
