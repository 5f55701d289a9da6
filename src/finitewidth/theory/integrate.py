"""Beyond the saddle: the full posterior of the order parameters (docs/theory.md section 3).

Given the order parameters the output is a Gaussian process; they have a known prior (products of chi-squares over their
widths), so that prediction, train error and evidence are low-dimensional integrals. For a linear network with one
output the result is exact at any width, depth and number of points (Bassetti et al. 2025).

* ``integrate_scale``: one dimension, log s, for every theory with ``K_R = s K``.
* ``integrate_mean``: two dimensions for one hidden layer whose activation has a mean (relu): the features share a
  direction, the readouts' sum along it is an order parameter of its own.
* ``integrate_nested``: importance sampling in log Q around the saddle for the nested closure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from scipy import special

from finitewidth import kernels
from finitewidth.checks.exceptions import InputError
from finitewidth.data import Dataset
from finitewidth.inference.prediction import Prediction
from finitewidth.linalg import Spectrum, left_over
from finitewidth.networks import Network
from finitewidth.theory.action import SpectralEnergy
from finitewidth.theory.general import Nested
from finitewidth.theory.saddle import hessian, shift_of_scale
from finitewidth.theory.scaled import ScaledKernel, SharedKernel
from finitewidth.theory.solution import CovariancePredictor, Predictor, TheorySolution
from finitewidth.theory.spectrum import KernelSpectrum, ScalePredictor, unit_network

Array = np.ndarray
_DEPTH = 42.0  # nats below its maximum at which an integrand is cut; e^-42 = 6e-19
_TOLERANCE = 1e-11  # relative change of an integral at which the nodes are no longer doubled
_MOST_NODES = 8192
_MOST_NATS = 1e10  # beyond, double precision no longer resolves an integrand


# --- the prior of s = prod_l chi2_{N_l} / N_l ------------------------------------------------------------------------


def log_scale_density(x: Array, widths: Sequence[int]) -> Array:
    """Log density of ``x = log s``, ``s = prod_l chi2_{N_l} / N_l``, accurate in the far tails too.

    One layer: closed form. Several: inverse Mellin transform, each x on the steepest-descent line through its own
    saddle theta(x), where the integrand is a bump and nothing cancels.
    """
    a = 0.5 * np.asarray(widths, dtype=float)
    x = np.asarray(x, dtype=float)
    if len(a) == 1:  # a^a / Gamma(a) e^{a x - a e^x}
        return float(_log_gamma_norm(a[0])) - a[0] * (np.expm1(x) - x)
    theta = _mellin_saddle(x, widths, a)
    curvature = special.polygamma(1, a + theta[:, None]).sum(1)
    sigma = 1.0 / np.sqrt(curvature)
    reach = np.arcsinh(9.0 + 30.0 / sigma)  # t = sigma sinh(v): fine in the middle, far enough for exponential tails
    v = np.linspace(0.0, 1.0, 241)
    t = sigma[:, None] * np.sinh(reach[:, None] * v)
    jacobian = sigma[:, None] * np.cosh(reach[:, None] * v) * reach[:, None] * (v[1] - v[0])
    exponent = sum(_log_gamma_growth(n + theta[:, None], 1j * t) for n in a)
    phase = np.log1p(theta[:, None] / a).sum(1) - x
    integrand = np.exp(exponent + 1j * t * phase[:, None]).real * jacobian
    integral = (integrand.sum(1) - 0.5 * (integrand[:, 0] + integrand[:, -1])) / math.pi
    start = sum(_log_gamma_growth(n, theta) for n in a)
    return np.log(np.maximum(integral, np.finfo(float).tiny)) + start - theta * x


def _mellin_saddle(x: Array, widths: Sequence[int], a: Array) -> Array:
    """theta with sum_l psi(a_l + theta) - log a_l = x; Newton from below, where the left side is concave."""
    theta = np.maximum(0.5 * shift_of_scale(x, widths), -a.min() + 1e-300)
    theta = np.maximum(theta, -a.min() * (1.0 - 1e-12))
    for _ in range(60):
        left = (special.digamma(a + theta[:, None]) - np.log(a)).sum(1) - x
        step = left / special.polygamma(1, a + theta[:, None]).sum(1)
        theta = np.maximum(theta - step, -a.min() + 0.5 * (theta + a.min()))
        if (np.abs(step) <= 1e-10 * np.minimum(1.0 + np.abs(theta), theta + a.min())).all():  # near the pole too
            break
    return theta


def _stirling(z: Array | float) -> Array | float:
    """log Gamma(z) - (z - 1/2) log z + z - log(2 pi)/2 for |z| >= 30."""
    w = 1.0 / (z * z)
    return (1.0 / 12.0 - w * (1.0 / 360.0 - w * (1.0 / 1260.0 - w / 1680.0))) / z


def _log_gamma_norm(a: float) -> float:
    """a log a - a - log Gamma(a)."""
    if a < 30.0:
        return a * math.log(a) - a - float(special.gammaln(a))
    return 0.5 * math.log(a / (2.0 * math.pi)) - float(_stirling(a))


def _log_gamma_growth(a: Array | float, step: Array | float) -> Array:
    """log Gamma(a + step) - log Gamma(a) - step log a, for steps on the real or the imaginary axis."""
    real = np.isrealobj(step)
    wide = np.minimum(a, a + step if real else a) >= 30.0
    r = np.maximum(step / a, -1.0 + 1e-300) if real else step / a
    start, end = np.where(wide, a, 30.0), np.where(wide, a + step, 30.0)
    growth = special.log1p(r)
    found = a * ((1.0 + r) * growth - r) - 0.5 * growth + _stirling(end) - _stirling(start)
    if np.all(wide):
        return np.asarray(found)
    gamma = special.gammaln if real else special.loggamma
    return np.where(wide, found, gamma(a + step) - special.gammaln(a) - step * np.log(a))


# --- one-dimensional quadrature --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Nodes:
    """A normalised one-dimensional posterior: nodes, weights (sum one), log of the integral, and whether it settled."""

    x: Array
    weights: Array
    log_integral: float
    settled: bool


def integrate_log_density(log_density: Callable[[Array], Array], starts: Sequence[tuple[float, float]]) -> Nodes:
    """Integrate exp(log_density) by the trapezoid rule, which is spectrally accurate for a smooth bump.

    starts: (centre, width) of every bump. The window grows until the integrand is e^-42 of its maximum on both sides;
    nodes double until the integral stands still.
    """
    low, high, top = _window(log_density, starts)
    previous, count = -np.inf, 129
    while True:
        x = np.linspace(low, high, count)
        values = log_density(x)
        top = float(values.max())
        if not (math.isfinite(top) and x[1] > x[0]):  # a bump too far out, or narrower than doubles are apart
            return Nodes(np.array([0.5 * (low + high)]), np.ones(1), math.nan, False)
        weights = np.exp(values - top)
        log_integral = top + math.log(weights.sum() * (x[1] - x[0]))
        settled = abs(log_integral - previous) <= _TOLERANCE * max(1.0, abs(log_integral))
        settled = settled and abs(top) < _MOST_NATS
        if settled or count > _MOST_NODES:
            kept = weights > 1e-17
            weights = weights[kept] / weights[kept].sum()
            return Nodes(x[kept], weights, log_integral, settled)
        previous, count = log_integral, 2 * count - 1


def _window(log_density: Callable[[Array], Array], starts: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    """Walk outwards from every bump, in growing strides, until the integrand has vanished on both sides."""
    heights = log_density(np.array([centre for centre, _ in starts]))
    top = float(heights.max())
    if math.isnan(top):  # no window: nothing will settle
        return starts[0][0], starts[0][0], top
    edges = []
    for centre, width in [s for s, height in zip(starts, heights, strict=True) if height >= top - 2.0 * _DEPTH]:
        for sign in (-1.0, 1.0):
            reach, stride = 0.0, 2.0 * width
            while True:
                steps = reach + stride * np.linspace(0.25, 1.0, 4)
                values = log_density(centre + sign * steps)
                top, reach = max(top, float(values.max())), reach + stride
                if not values[-1] > top - _DEPTH:
                    break
                stride *= 1.15
            edges.append(centre + sign * reach)
    return min(edges), max(edges), top


# --- theories --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class IntegratedScale(ScaledKernel):
    """``K_R = s K`` with s integrated over instead of fixed at the saddle."""

    method = "integrate"

    def for_outputs(self, n_outputs: int) -> IntegratedScale:
        """One output only."""
        _refuse_several(n_outputs)
        return self

    def solve(self, train: Dataset, shared: SharedKernel | None = None, memory: float | None = None) -> TheorySolution:
        """Posterior of the order parameters; the saddle is solved first and tells where to integrate."""
        shared = shared or self.factorise(train, memory)
        assert isinstance(shared, KernelSpectrum)
        saddle = super().solve(train, shared)
        if not saddle.converged:
            return replace(saddle, gradient=None)
        with_mean = self.network.depth == 1 and not self.network.phi.odd
        return (integrate_mean if with_mean else integrate_scale)(self, saddle, shared)


@dataclass(frozen=True)
class IntegratedNested(Nested):
    """The nested closure, its order parameters integrated over."""

    method = "integrate"
    evaluations = 60  # of 512, small ones, whose rehearsal would take as long as they do

    def for_outputs(self, n_outputs: int) -> IntegratedNested:
        """One output only."""
        _refuse_several(n_outputs)
        return self

    def solve(self, train: Dataset, shared: Any = None, memory: float | None = None) -> TheorySolution:
        """As ``IntegratedScale``."""
        saddle = super().solve(train, shared, memory)
        return integrate_nested(self, saddle) if saddle.converged else replace(saddle, gradient=None)


def _refuse_several(n_outputs: int) -> None:
    if n_outputs > 1:
        raise InputError(
            f"method = 'integrate' with {n_outputs} outputs", "one output", "use method='saddle', whose Q is a matrix"
        )


def integrate_scale(theory: ScaledKernel, saddle: TheorySolution, shared: KernelSpectrum) -> TheorySolution:
    """Mixture over log s; exact for linear networks with one output."""
    energy, temperature, shift = shared.energy, theory.temperature, theory.log_prior_scale
    reference = float(np.prod(saddle.order_parameters) * np.exp(shift))

    def log_density(x: Array) -> Array:
        return log_scale_density(x, theory.widths) - energy.change(np.exp(x + shift), reference, temperature)

    nodes = integrate_log_density(log_density, _bumps(saddle, theory, energy))
    predictor = ScalePredictor(shared, np.exp(nodes.x + shift), nodes.weights, temperature)
    change = shift_of_scale(nodes.x, theory.widths)
    mean = np.array([1.0 + nodes.weights @ change / n for n in theory.widths])
    log_evidence = nodes.log_integral - float(energy.energy(reference, temperature))
    return _solution(saddle, mean, log_evidence, nodes.settled, predictor)


def _bumps(saddle: TheorySolution, theory: ScaledKernel, energy: SpectralEnergy) -> list[tuple[float, float]]:
    """Where the posterior of log s can have weight: every minimum of the action, as wide as its curvature says."""
    least = 1.0 / sum(2.0 / n for n in theory.widths) + 0.25 * saddle.train.n_points
    out = []
    for minimum in saddle.minima:
        log_q = np.log(minimum.order_parameters)
        stiffness = energy.outputs / (1.0 / (np.asarray(theory.widths) * minimum.order_parameters)).sum()
        slope = energy.data_term_slope(float(np.exp(log_q.sum() + theory.log_prior_scale)), theory.temperature)
        out.append((float(log_q.sum()), 1.0 / math.sqrt(max(least, 0.5 * (stiffness - slope)))))
    return out


def _solution(
    saddle: TheorySolution, q: Array, log_evidence: float, settled: bool, predictor: Predictor, note: str = ""
) -> TheorySolution:
    if not settled:
        unsettled = "the integral over the order parameters has not settled"
        note = "; ".join(filter(None, (unsettled, note, "use method='saddle'")))
    return replace(
        saddle,
        order_parameters=q,
        log_evidence=log_evidence,
        converged=bool(settled and math.isfinite(log_evidence)),
        message=note,
        predictor=predictor,
        gradient=None,
    )


# --- an activation with a mean: two dimensions -----------------------------------------------------------------------


def integrate_mean(theory: ScaledKernel, saddle: TheorySolution, shared: KernelSpectrum) -> TheorySolution:
    """Features ``m + g``: ``f | u, q ~ N(u m, q (kappa - m m^T))``, all over the readout precision.

    q = |v|^2/N is chi-square over N; u, the component of v along the shared direction, is ``sqrt(N q) sin(angle)`` with
    density cos(angle)^(N-2): both at once are the polar form of the readout vector. Exact for Gaussian features with
    that mean and covariance.
    """
    network, temperature, train = theory.network, theory.temperature, saddle.train
    precision, width = network.readout_precision, network.widths[0]
    unit = unit_network(network)
    mean = kernels.feature_mean(unit, train.x)
    gram = kernels.nngp(unit, train.x)
    gram -= np.outer(mean, mean)
    spectrum = Spectrum.of(gram, overwrite=True)
    energy, reference = SpectralEnergy.of(spectrum, train.y), float(saddle.order_parameters[0]) / precision
    model = MeanModel(unit, train, energy, spectrum.rotate(mean), precision, width, temperature)

    def log_density(x: Array) -> Array:
        q = np.exp(x)
        return log_scale_density(x, (width,)) + (
            special.logsumexp(model.angles(q)[1], axis=1) - energy.change(q / precision, reference, temperature)
        )

    nodes = integrate_log_density(log_density, _bumps(saddle, theory, shared.energy))
    q = np.exp(nodes.x)
    predictor = MeanPredictor(model, q, nodes.weights)
    log_evidence = nodes.log_integral - float(energy.energy(reference, temperature))
    return _solution(saddle, np.array([nodes.weights @ q]), log_evidence, nodes.settled, predictor)


@dataclass(frozen=True)
class MeanModel:
    """One hidden layer with feature mean m: spectral sums of kappa - m m^T and the integral over the angle."""

    network: Network  # unit readout precision
    train: Dataset
    energy: SpectralEnergy
    rotated_mean: Array
    precision: float
    width: int
    temperature: float

    def shifted(self, q: Array) -> Array:
        """Eigenvalues of A for every node: (P, nodes)."""
        return q / self.precision * self.energy.spectrum.values[:, None] + self.temperature

    def angles(self, q: Array) -> tuple[Array, Array]:
        """u and log weights (without the likelihood's u-independent part), (nodes, angles)."""
        shifted = self.shifted(q)
        linear = (self.energy.rotated * self.rotated_mean) @ (1.0 / shifted) / math.sqrt(self.precision)
        square = (self.rotated_mean**2) @ (1.0 / shifted) / self.precision
        radius = np.sqrt(self.width * q)
        if self.width == 1:  # a single neuron: the direction is a sign
            u = radius[:, None] * np.array([-1.0, 1.0])
            return u, linear[:, None] * u - 0.5 * square[:, None] * u**2 + math.log(0.5)
        centre, spread = self._mode(linear * radius, square * radius**2)
        low = np.maximum(centre - 14.0 * spread, -0.5 * math.pi)
        high = np.minimum(centre + 14.0 * spread, 0.5 * math.pi)
        node, weight = np.polynomial.legendre.leggauss(160)
        angle = 0.5 * (high + low)[:, None] + 0.5 * (high - low)[:, None] * node
        u = radius[:, None] * np.sin(angle)
        half = 0.5 * self.width
        log_norm = 0.5 * math.log(half / math.pi) - float(_log_gamma_growth(half, -0.5))  # Gamma(a) / Gamma(a - 1/2)
        log_weight = np.log(0.5 * (high - low)[:, None] * weight) + log_norm
        log_weight += 0.5 * (self.width - 2.0) * np.log1p(-np.minimum(np.sin(angle) ** 2, 1.0 - 1e-16))
        return u, log_weight + linear[:, None] * u - 0.5 * square[:, None] * u**2

    def _mode(self, b: Array, a: Array) -> tuple[Array, Array]:
        """Maximum of ``(N-2) log cos + b sin - a sin^2 / 2`` over the angle by bisection, and its width."""
        n = self.width - 2.0
        low, high = np.full_like(b, -0.5 * math.pi), np.full_like(b, 0.5 * math.pi)
        for _ in range(80):
            middle = 0.5 * (low + high)
            sine, cosine = np.sin(middle), np.cos(middle)
            uphill = (b - a * sine) * cosine**2 - n * sine > 0.0
            low, high = np.where(uphill, middle, low), np.where(uphill, high, middle)
        mode = 0.5 * (low + high)
        curvature = n / np.maximum(np.cos(mode) ** 2, 1e-12) + a * np.cos(2 * mode) + b * np.sin(mode)
        return mode, 1.0 / np.sqrt(np.maximum(curvature, 0.25))

    def moments(self, q: Array) -> tuple[Array, Array]:
        """Posterior E[u | q], E[u^2 | q]."""
        u, log_weight = self.angles(q)
        weight = np.exp(log_weight - special.logsumexp(log_weight, axis=1, keepdims=True))
        return (weight * u).sum(1), (weight * u**2).sum(1)


@dataclass(frozen=True)
class MeanPredictor:
    """Mixture over q, with u integrated by its first two conditional moments."""

    model: MeanModel
    q: Array
    weights: Array

    def predict(self, x: Array) -> Prediction:
        model, spectrum = self.model, self.model.energy.spectrum
        first, second = model.moments(self.q)
        root = math.sqrt(model.precision)
        mean_x = kernels.feature_mean(model.network, x)
        cross = kernels.nngp(model.network, x, model.train.x)
        cross -= np.outer(mean_x, kernels.feature_mean(model.network, model.train.x))
        cross = spectrum.project(cross)
        prior = kernels.nngp_diagonal(model.network, x) - mean_x**2
        scale, shifted = self.q / model.precision, model.shifted(self.q)
        base = cross @ (scale * model.energy.rotated[:, None] / shifted)  # mean = base + u * tilt
        tilt = (mean_x[:, None] - cross @ (scale * model.rotated_mean[:, None] / shifted)) / root
        variance = left_over(scale * prior[:, None], cross**2 @ (scale**2 / shifted))
        mean = (base + first * tilt) @ self.weights
        spread = (base + first * tilt - mean[:, None]) ** 2 + (second - first**2) * tilt**2
        y, m = model.energy.rotated[:, None], model.rotated_mean[:, None] / root
        residual = (model.temperature / shifted) ** 2 * (y**2 - 2.0 * first * y * m + second * m**2)
        left = model.temperature * scale * spectrum.values[:, None] / shifted
        error = float(np.mean((residual + left) @ self.weights))
        return Prediction(mean, (variance + spread) @ self.weights, error)


# --- the nested closure: importance sampling -------------------------------------------------------------------------

_DRAWS = 256
_FREEDOM = 8.0
_FEWEST = 50.0  # effective draws below which the result is not called converged


def integrate_nested(theory: Nested, saddle: TheorySolution) -> TheorySolution:
    """Importance sampling in log Q with a quasi-random multivariate-t proposal (8 degrees of freedom, Laplace Hessian).

    Every draw costs a Cholesky factor. The message states the effective number of draws and the standard error of the
    log evidence.
    """
    train, centre = saddle.train, np.log(saddle.order_parameters)
    # R with R R^T the inverse Hessian of the action in log Q
    values, vectors = np.linalg.eigh(hessian(partial(theory.action, train), centre, 1e-4))
    root = vectors / np.sqrt(np.maximum(values, 0.05 * min(theory.widths)))
    draws, log_proposal = _student_draws(centre, root, seed=0)
    log_target = np.array([_nested_log_target(theory, train, x) for x in draws])
    log_weight = log_target - log_proposal
    log_evidence = float(special.logsumexp(log_weight) - math.log(len(draws)))
    weights = np.exp(log_weight - special.logsumexp(log_weight))
    effective = float(1.0 / (weights**2).sum())
    error = math.sqrt(max(1.0 / effective - 1.0 / len(draws), 0.0))
    kept = weights > 1e-6 / len(draws)
    predictor = NestedMixture(theory, train, np.exp(draws[kept]), weights[kept] / weights[kept].sum())
    note = f"{effective:.0f} effective of {len(draws)} draws, log evidence +- {error:.2g}"
    return _solution(saddle, weights @ np.exp(draws), log_evidence, effective >= _FEWEST, predictor, note)


def _student_draws(centre: Array, root: Array, seed: int) -> tuple[Array, Array]:
    dim = len(centre)
    from scipy.stats import qmc  # slow to import, and seldom needed

    uniform = qmc.Sobol(dim + 1, seed=np.random.default_rng(seed)).random(_DRAWS)
    uniform = np.clip(uniform, 1e-12, 1.0 - 1e-12)
    z = special.ndtri(uniform[:, :dim])
    chi2 = 2.0 * special.gammaincinv(0.5 * _FREEDOM, uniform[:, dim])
    t = z / np.sqrt(chi2 / _FREEDOM)[:, None]
    log_norm = special.gammaln(0.5 * (_FREEDOM + dim)) - special.gammaln(0.5 * _FREEDOM)
    log_norm -= 0.5 * dim * math.log(_FREEDOM * math.pi) + np.linalg.slogdet(root)[1]
    log_density = log_norm - 0.5 * (_FREEDOM + dim) * np.log1p((t**2).sum(1) / _FREEDOM)
    return centre + t @ root.T, log_density


def _nested_log_target(theory: Nested, train: Dataset, log_q: Array) -> float:
    prior = sum(float(log_scale_density(x[None], (n,))[0]) for x, n in zip(log_q, theory.widths, strict=True))
    return prior - theory.energy(train, np.exp(log_q))


@dataclass(frozen=True)
class NestedMixture:
    """Weighted average of Gaussian processes, one for each draw of the order parameters."""

    theory: Nested
    train: Dataset
    draws: Array
    weights: Array

    def predict(self, x: Array) -> Prediction:
        mean, second, error = 0.0, 0.0, 0.0
        for q, weight in zip(self.draws, self.weights, strict=True):
            found = CovariancePredictor(self.theory, self.train, q).predict(x)
            mean, second = mean + weight * found.mean, second + weight * (found.variance + found.mean**2)
            error += weight * found.train_error
        return Prediction(np.asarray(mean), np.asarray(second - np.square(mean)), float(error))
