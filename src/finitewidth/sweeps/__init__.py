"""Sweeps: a plan of many predictions, samples and trainings, done once each, whatever happens in between.

``run(plan, out)`` does or goes on; ``status(out)`` tells how far it is; ``read(out)`` is a pandas DataFrame;
``draws(out, point_id)`` are the draws of a sampled point (docs/sweeps.md).
"""

from finitewidth.sweeps.execute import run
from finitewidth.sweeps.plan import Plan
from finitewidth.sweeps.results import draws, read, rows
from finitewidth.sweeps.status import Status, status

__all__ = ["Plan", "Status", "draws", "read", "rows", "run", "status"]
