"""Theories with ``K_R = s K`` on many points: everything from one block Krylov space, with error estimates.

The space starts from the targets and from random probes; K is only ever multiplied (``kernels/operator.py``). Its Ritz
values and the weights of the targets on them replace the eigendecomposition in the action, for every width, scale and
temperature (Golub and Meurant 2010; traces: Ubaru, Chen and Saad 2017; docs/theory.md section 8).

Preconditioners belong to one temperature and scale (Gardner et al. 2018 build theirs for one ridge); what serves them
all is deflation: leading Ritz pairs exactly, probes on what they leave.

Errors, at a scale s and temperature T, A = s K + T, r the residual of A^-1 y in the space (Galerkin):

* quadratic form: ``y^T A^-1 y`` is too small by ``r^T A^-1 r <= |r|^2 / T``;
* mean at a test point: off by at most ``sqrt(v - v_exact) sqrt(r^T A^-1 r)``, v its variance in the space (Cauchy and
  Schwarz in A, for the residuals of both A^-1 y and A^-1 k(X, x));
* log-determinant and trace: 99 % interval from the scatter of the probes, the change since the space was last grown
  for the quadrature, and what single precision of the kernel can do;
* variance: the space's own is an upper bound; what it lacks is a trace over the test points, estimated from random
  combinations of their kernels in a space of their own on top of the first, again with a 99 % interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import special

from finitewidth.data import Dataset
from finitewidth.display import Displayed
from finitewidth.inference.prediction import Prediction
from finitewidth.kernels.operator import GramOperator, Points, stored_bytes
from finitewidth.linalg import available_memory, left_over, require_memory
from finitewidth.linalg.krylov import KrylovSpace, Ritz, trace_quadrature
from finitewidth.networks import Network
from finitewidth.theory.action import QuadratureEnergy
from finitewidth.theory.saddle import shift_of_scale
from finitewidth.theory.solver import MOST_TEST_BLOCKS, Solver, krylov_bytes

if TYPE_CHECKING:
    from finitewidth.theory.solution import TheorySolution

Array = np.ndarray
_GROWTH = 8  # blocks by which a space grows
_TEST_GROWTH = 6
_CONFIDENCE = 0.99
_BAND = 2.6  # standard deviations of that confidence, for what is Gaussian by many small terms


@dataclass(frozen=True)
class KrylovErrors(Displayed):
    """Estimated errors of a solution from a Krylov space, 99 % intervals or bounds.

    log_det: of log det A, nats. quadratic_form: of y^T A^-1 y. log_scale: of log prod Q. residual: sqrt(r^T A^-1 r),
    and noise, of the precision of K: a mean prediction is off by at most so many of its standard deviations.
    dimensions: of the space. passes: over K so far. stored: whether the kernel was kept in memory. single_precision:
    whether its tiles are float32.
    """

    log_det: float
    quadratic_form: float
    log_scale: float
    residual: float
    noise: float
    dimensions: int
    passes: int
    stored: bool
    single_precision: bool

    @property
    def log_evidence(self) -> float:
        """Nats."""
        return 0.5 * (self.log_det + self.quadratic_form)


def student(count: int) -> float:
    """Half-width of the confidence interval in standard errors estimated from ``count`` values."""
    return float(special.stdtrit(count - 1, 0.5 + 0.5 * _CONFIDENCE))


class KrylovKernel:
    """One training set under one kernel of unit readout precision, as ``KernelSpectrum``, without a Gram matrix."""

    def __init__(self, operator: GramOperator, train: Dataset, solver: Solver) -> None:
        self.operator, self.train, self.solver = operator, train, solver
        count, rng = train.n_points, np.random.default_rng(solver.seed)
        self._noise = max(operator.noise(), np.finfo(float).eps * operator.trace / count)  # error of an entry of K
        norm = math.sqrt(float(train.y @ train.y) / count)
        self._norm = norm if norm > 0.0 else 1.0
        probes = rng.standard_normal((count, solver.probes))
        start = np.concatenate([train.y[:, None] / self._norm, probes], axis=1)
        self.space = KrylovSpace(operator.__matmul__, start, solver.most_dimensions)
        self._points: tuple[Array, KrylovPoints] | None = None
        self.energy = self._coarser = self._grown()
        self.grow()

    @classmethod
    def of(cls, network: Network, train: Dataset, solver: Solver, memory: float | None = None) -> KrylovKernel:
        """Assemble the operator and build the space; the kernel is stored if it fits. Raises MemoryCapError first."""
        count = train.n_points
        dtype = Points.of(network, train.x, solver.dtype(count)).dtype  # double where single cannot hold the variances
        require_memory(
            krylov_bytes(train, solver),
            f"a Krylov space of {min(solver.most_dimensions, count)} dimensions on {count} points",
            "lower most_dimensions, or raise the memory cap",
            memory,
        )
        keep = cls.keeps(train, dtype, solver, memory)
        return cls(GramOperator(network, train.x, keep, dtype, solver.client), train, solver)

    @staticmethod
    def keeps(train: Dataset, dtype: type, solver: Solver, memory: float | None = None) -> bool:
        """Whether the tiles of the kernel fit beside the rest, or half the memory of the client's workers."""
        stored = stored_bytes(train.n_points, dtype)
        if solver.client is not None:
            from finitewidth.kernels.operator import workers_memory

            return stored <= 0.5 * workers_memory(solver.client)
        limit = available_memory() if memory is None else memory
        return krylov_bytes(train, solver) + stored <= limit

    # --- the space --------------------------------------------------------------------------------------------------

    def grow(self) -> None:
        self._coarser, self.energy = self.energy, self._grown()
        self._points = None
        if self.space.invariant:
            self._coarser = self.energy

    def _grown(self) -> QuadratureEnergy:
        self.space.advance(_GROWTH)
        self.ritz = self.space.ritz()
        coordinates = self.ritz.coordinates(self.space.start)
        self.target = coordinates[:, 0] * self._norm
        traces = trace_quadrature(self.ritz, coordinates[:, 1:], self.train.n_points, self.operator.trace)
        return QuadratureEnergy.of(traces, self.target**2, self.train.n_points, self.operator.trace)

    def points(self, x: Array) -> KrylovPoints:
        """What test points need; stored for the last read-only ``x`` while the space does not grow."""
        if self._points is not None and self._points[0] is x:
            return self._points[1]
        points = KrylovPoints(self, x)
        if not x.flags.writeable:
            self._points = (x, points)
        return points

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_points": None}

    # --- errors -----------------------------------------------------------------------------------------------------

    def errors(self, scale: float, temperature: float, widths: tuple[int, ...], log_prior_scale: float) -> KrylovErrors:
        """At a scale and temperature; log_scale is 0 without order parameters."""
        energy, shifted = self.energy, scale * self.energy.values + temperature
        noise_log_det, noise_quadratic, noise_residual = self._noise_errors(shifted, scale, temperature)
        deviations = np.stack([np.log(shifted), scale * energy.values / shifted])
        spread = np.nan_to_num(student(self.solver.probes) * energy.traces.standard_error(deviations))
        log_det = abs(_log_det(energy, scale, temperature) - _log_det(self._coarser, scale, temperature))
        data_term = abs(float(energy.data_term(scale, temperature) - self._coarser.data_term(scale, temperature)))
        data_term += float(spread[1]) + noise_log_det + noise_quadratic
        left = scale * np.linalg.norm(self.ritz.outward @ (self.target / shifted)) / math.sqrt(temperature)
        return KrylovErrors(
            log_det=log_det + float(spread[0]) + noise_log_det,
            quadratic_form=float(left**2) + noise_quadratic,
            log_scale=self._log_scale_error(data_term, scale, temperature, widths, log_prior_scale),
            residual=float(left),
            noise=noise_residual,
            dimensions=self.space.size,
            passes=self.operator.passes,
            stored=self.operator.keep,
            single_precision=self.operator.points.dtype == np.float32,
        )

    def _noise_errors(self, shifted: Array, scale: float, temperature: float) -> tuple[float, float, float]:
        """Of log-determinant, quadratic form and residual, when every entry of K has an independent error e.

        First order, and second order in traces. A mean changes by ``s k(x, X) A^-1 e A^-1 y``, and
        ``|s A^-1 k(X, x)|^2 T`` is at most the variance.
        """
        entry, copies = scale * self._noise, np.maximum(self.energy.multiplicity, 0.0)
        trace, square = float((copies / shifted).sum()), float((copies / shifted**2).sum())
        solved = float((self.energy.power / shifted**2).sum())  # |A^-1 y|^2
        first = _BAND * math.sqrt(2.0) * entry
        of_log_det = first * math.sqrt(square) + 0.5 * (entry * trace) ** 2
        of_quadratic_form = first * solved + entry**2 * solved * trace
        return of_log_det, of_quadratic_form, _BAND * entry * math.sqrt(solved / temperature)

    def _log_scale_error(
        self, data_term: float, scale: float, temperature: float, widths: tuple[int, ...], log_prior_scale: float
    ) -> float:
        """How far an error of the data's term moves the stationary scale: over the slope of what it balances."""
        if not widths:
            return 0.0
        shift = float(shift_of_scale(math.log(scale) - log_prior_scale, widths))
        slope = 1.0 / sum(1.0 / (n + shift) for n in widths) - self.energy.data_term_slope(scale, temperature)
        return data_term / slope if slope > 0.0 else math.inf

    def settled(self, solve: Callable[[], TheorySolution]) -> TheorySolution:
        """The solution with its errors, the space grown until they are small, or it can do no more.

        Small: no test error can be off by more than the accuracy through the mean or the scale. With |bias error| <=
        2 sqrt(bias variance) residual, an error of the mean changes bias + variance by at most the residual,
        relatively; the scale acts on it at most in proportion. Not converged where errors are above the accuracy.
        """
        while True:
            solution = solve()
            at = solution.predictor
            assert isinstance(at, KrylovPredictor)
            if not math.isfinite(at.scale):
                return solution
            errors = self.errors(at.scale, at.temperature, at.widths, at.log_prior_scale)
            if self.space.full or max(errors.residual, errors.log_scale) <= 0.5 * self.solver.target:
                break
            self.grow()
        message = _complaint(errors, self.solver)
        converged = solution.converged and not message
        return replace(solution, solver_errors=errors, converged=converged, message=message or solution.message)


def _log_det(energy: QuadratureEnergy, scale: float, temperature: float) -> float:
    return float(energy.multiplicity @ np.log(scale * energy.values + temperature))


def _complaint(errors: KrylovErrors, solver: Solver) -> str:
    """What is wrong with a solution whose errors are too large; empty where nothing is."""
    means = errors.residual + errors.noise
    if means > solver.target:
        what = f"means off by up to {means:.2g} standard deviations"
    elif errors.log_scale > solver.target:
        what = f"order parameter off by up to {100 * errors.log_scale:.2g} %"
    else:
        return ""
    remedy = "precision='double', " if errors.single_precision else ""
    return (
        f"the Krylov space of {errors.dimensions} dimensions leaves {what}, above the accuracy {solver.target:g}; "
        f"raise the temperature, most_dimensions or probes, {remedy}or accept a larger accuracy"
    )


# --- test points -----------------------------------------------------------------------------------------------------


class KrylovPoints:
    """Test points: their kernel with the space, and the trace that the variance in the space lacks.

    ``sum_x v(x)`` is short of the exact one by a trace of ``k(x, X) (A^-1 - its Galerkin part) k(X, x)``. Random signs
    over the test points, w, turn it into quadratic forms of ``c = k(X, x) w``, which a Krylov space from c on top of
    the first resolves; few points take their own kernels instead of random combinations, and the result is exact.
    """

    def __init__(self, shared: KrylovKernel, x: Array) -> None:
        self.shared, solver = shared, shared.solver
        cross = shared.operator.cross(x)
        self.prior = cross.rows.diagonal
        components = np.concatenate([cross @ basis for basis in shared.space.bases()], axis=1)
        self.cross = shared.ritz.project(components)
        count = len(self.prior)
        self.complete = count <= solver.test_probes
        rng = np.random.default_rng([solver.seed, 1])
        signs = np.eye(count) if self.complete else rng.choice([-1.0, 1.0], (count, solver.test_probes))
        combined = cross.T @ signs
        self._norm = float(np.linalg.norm(combined, axis=0).max(initial=0.0)) or 1.0
        capacity = solver.test_probes * MOST_TEST_BLOCKS
        self.space = KrylovSpace(shared.operator.__matmul__, combined / self._norm, capacity, shared.space)
        first = self.space.start[: shared.space.size] * self._norm
        self.ritz, self.combined = shared.ritz, shared.ritz.coordinates(first)  # (d, q)
        self._inside = self._before = (self.ritz, self.combined)
        self.grow()

    def grow(self) -> None:
        self._before = (self.ritz, self.combined)
        self.space.advance(_TEST_GROWTH)
        self.ritz = self.space.ritz()
        self.combined = self.ritz.coordinates(self.space.start) * self._norm

    @cached_property
    def power(self) -> Array:
        return self.cross**2

    def missing(self, scale: float, temperature: float) -> Array:
        """How much too large variances in the space are: of every point (complete), or of their mean, a probe each."""
        outside, inside = (_forms(*at, scale, temperature) for at in ((self.ritz, self.combined), self._inside))
        missing = scale**2 * (outside.sum(0) - inside.sum(0))
        return np.maximum(missing, 0.0) if self.complete else missing / len(self.prior)

    def unresolved(self, scale: float, temperature: float) -> float:
        """What may be left of the mean of ``missing`` to find: the residuals' bound, or its last gain where less.

        Galerkin values rise monotonically and at least geometrically, so that what is left is below the last gain.
        """
        solved = self.ritz.vectors @ (self.combined / (scale * self.ritz.values + temperature)[:, None])
        first = np.linalg.norm(self.shared.space.residual @ solved[self.shared.space.end()], axis=0)
        own = np.linalg.norm(self.space.residual @ solved[self.space.end()], axis=0)
        bound = float((scale**2 * (scale * (first + own)) ** 2 / temperature).sum())
        now, before = (_forms(*at, scale, temperature) for at in ((self.ritz, self.combined), self._before))
        gain = scale**2 * float(now.sum() - before.sum())
        return min(bound, max(gain, 0.0)) / (len(self.prior) * (1 if self.complete else self.combined.shape[1]))


def _forms(ritz: Ritz, combined: Array, scale: float, temperature: float) -> Array:
    """``c^T A^-1 c`` of combinations c in the Ritz vectors of a space, by Ritz vector: (d, q)."""
    return combined**2 / (scale * ritz.values + temperature)[:, None]


@dataclass(frozen=True)
class KrylovPredictor:
    """The predictive distribution at one scale: means in the space, variances corrected for what it lacks.

    With more points than probes the correction is known on average: each variance takes it in proportion.
    """

    shared: KrylovKernel
    scale: float
    temperature: float
    widths: tuple[int, ...]
    log_prior_scale: float

    def predict(self, x: Array) -> Prediction:
        return self._at(self.resolved(x), self.scale)

    def resolved(self, x: Array) -> KrylovPoints:
        """The points, their space grown until its error is a tenth of the accuracy."""
        points = self.shared.points(x)
        while not points.space.full:
            variance = float(self._at(points, self.scale).variance.mean())
            if points.unresolved(self.scale, self.temperature) <= 0.1 * self.shared.solver.target * variance:
                break
            points.grow()
        return points

    def _at(self, points: KrylovPoints, scale: float) -> Prediction:
        energy, shifted = self.shared.energy, scale * self.shared.ritz.values + self.temperature
        mean = scale * points.cross @ (self.shared.target / shifted)
        upper = left_over(scale * points.prior, scale**2 * points.power @ (1.0 / shifted))
        missing = points.missing(scale, self.temperature)
        if points.complete:
            variance = np.maximum(upper - missing, 0.0)
        else:
            variance = upper * max(1.0 - missing.mean() / max(upper.mean(), np.finfo(float).tiny), 0.0)
        return Prediction(mean, variance, float(energy.train_error(scale, self.temperature)))

    def complaint(self, error: float) -> str:
        """What is wrong with a test error of this estimated relative error; empty where nothing is."""
        target = self.shared.solver.target
        if error <= target:
            return ""
        return (
            f"the Krylov space leaves the test error off by up to {100 * error:.2g} %, above the accuracy "
            f"{100 * target:g} %; raise test_probes, probes or most_dimensions, or accept a larger accuracy"
        )

    def estimated_error(self, x: Array, y: Array) -> float:
        """Relative error of the test error, 99 % interval: mean, variance and scale."""
        points = self.resolved(x)
        found = self._at(points, self.scale)
        errors = self.shared.errors(self.scale, self.temperature, self.widths, self.log_prior_scale)
        bias, variance = float(np.mean((y - found.mean) ** 2)), float(found.variance.mean())
        of_variance = self._variance_error(points)
        missing = abs(float(points.missing(self.scale, self.temperature).mean())) + of_variance
        mean = errors.residual * math.sqrt(missing) + errors.noise * math.sqrt(variance)
        error = 2.0 * math.sqrt(bias) * mean + mean**2 + of_variance + self._drift(points, y, errors)
        return error / (bias + variance) if error > 0.0 else 0.0

    def _variance_error(self, points: KrylovPoints) -> float:
        unresolved = points.unresolved(self.scale, self.temperature)
        if points.complete:
            return unresolved
        missing = points.missing(self.scale, self.temperature)
        return student(len(missing)) * float(missing.std(ddof=1)) / math.sqrt(len(missing)) + unresolved

    def _drift(self, points: KrylovPoints, y: Array, errors: KrylovErrors) -> float:
        """Change of the test error when the scale moves by its own error."""
        step = min(errors.log_scale, 1.0)
        ends = [self._at(points, self.scale * math.exp(sign * step)) for sign in (-1.0, 1.0)]
        low, high = (float(np.mean((y - end.mean) ** 2 + end.variance)) for end in ends)
        return 0.5 * abs(high - low)
