"""The exact first order in 1/N to a curve over widths, for figures."""

from __future__ import annotations

import numpy as np

from finitewidth.checks.exceptions import InputError
from finitewidth.data import Dataset
from finitewidth.inference.likelihoods import Gaussian
from finitewidth.inference.methods import parts
from finitewidth.jobs.job import Job
from finitewidth.theory.expansion import FirstOrder, FirstOrderSlopes
from finitewidth.theory.expansion.method import serves_all_widths
from finitewidth.theory.expansion.slopes import Effort, recent_slopes
from finitewidth.theory.methods import Integrate, Saddle
from finitewidth.theory.validity import NEURONS, TOLERANCE

_MOST = 500  # training or test points, up to which it is a matter of seconds
_LOOKED_AT = 200  # up to which as many neurons are drawn as for validity; beyond, so many fewer that they cost the same


def tangent_of(job: Job, train: Dataset, test: Dataset) -> FirstOrderSlopes | None:
    """Of a job over widths at one temperature and training-set size.

    What validity, which looks at up to 200 points, or the method "first-order" has computed on the same points is not
    computed again. None for other jobs, for more than 500 points by other methods than that one, and where there is no
    first order that all widths share (``fw.first_order``; not with a mean-field readout).
    """
    problem, method = job.narrowest().problems[0], job.method
    one_line = len({other.likelihood for other in job.problems}) == len(job.sizes or [0]) == 1
    several = len({other.network.widths for other in job.problems}) > 1
    (part,) = parts(train, job.sizes) if one_line else [train]
    points = max(part.n_points, test.n_points)
    few = points <= _MOST or isinstance(method, FirstOrder)
    network, likelihood = problem
    known = isinstance(likelihood, Gaussian) and serves_all_widths(network, likelihood, train.n_outputs)
    if not (one_line and several and few and known):
        return None
    effort = Effort(TOLERANCE, int(NEURONS[0] * min(1.0, (_LOOKED_AT / points) ** 2)), 0, job.control.memory)
    if isinstance(method, FirstOrder):
        effort = method.effort(job.control)
    action = method if isinstance(method, (Saddle, Integrate)) else Saddle()
    try:
        theory = action.theory(problem).for_outputs(train.n_outputs)
        return recent_slopes(theory, part, test, effort)
    except (InputError, np.linalg.LinAlgError):
        return None
