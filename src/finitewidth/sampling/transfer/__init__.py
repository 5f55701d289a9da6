"""Draws from two finite networks with coupled first layers (docs/theory.md, Transfer), readouts integrated exactly.

Together (joint.py): one chain holds both first layers. Source first: the source's own posterior is drawn from
(source.py), and each first layer W_s that comes out is kept while chains of the target's W_t run under the prior
N(c W_s, s^2) (following.py). All are targets of the collapsed sampler and run in the same engine as ``fw.sample``.
"""

from finitewidth.sampling.transfer.following import FollowingDraws, sample_following
from finitewidth.sampling.transfer.joint import JointRun, sample_joint
from finitewidth.sampling.transfer.source import SourceLayers, SourceRun, sample_source

__all__ = [
    "FollowingDraws",
    "JointRun",
    "SourceLayers",
    "SourceRun",
    "sample_following",
    "sample_joint",
    "sample_source",
]
