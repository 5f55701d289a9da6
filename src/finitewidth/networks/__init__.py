"""Descriptions of architectures and of their priors."""

from finitewidth.networks.base import Network
from finitewidth.networks.fully_connected import FullyConnected

__all__ = ["FullyConnected", "Network"]
