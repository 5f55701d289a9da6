"""The second route of benchmarks/robustness.py: kernels, actions and posteriors in 60 decimal digits.

Written from docs/theory.md with Python's ``decimal`` alone, for a few points; nothing is shared with the package.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Context, Decimal, setcontext

import numpy as np

Matrix = list[list[Decimal]]
setcontext(Context(prec=60, Emin=-(10**9), Emax=10**9))
ZERO, ONE, TWO = Decimal(0), Decimal(1), Decimal(2)
SLOPE = Decimal(repr(0.01))  # of leaky relu


def atan(x: Decimal) -> Decimal:
    """By halving the argument, then the series."""
    halvings = 0
    while abs(x) > Decimal("0.05"):
        x = x / (ONE + (ONE + x * x).sqrt())
        halvings += 1
    term, total, k, square = x, x, 1, x * x
    while abs(term) > abs(total) * Decimal("1e-62") and term:
        term = -term * square
        k += 2
        total += term / k
    return total * 2**halvings


PI = 4 * atan(ONE)


def arcsin(x: Decimal) -> Decimal:
    rest = ONE - x * x
    return atan(x / rest.sqrt()) if rest > 0 else PI / 2 * (ONE if x > 0 else -ONE)


def _erf(a: Decimal, c: Decimal, b: Decimal) -> Decimal:
    return 2 / PI * arcsin(2 * c / ((1 + 2 * a) * (1 + 2 * b)).sqrt())


def _relu(a: Decimal, c: Decimal, b: Decimal) -> Decimal:
    norm = (a * b).sqrt()
    if not norm:
        return ZERO
    cosine = max(-ONE, min(ONE, c / norm))
    return norm / (2 * PI) * ((ONE - cosine * cosine).sqrt() + (PI / 2 + arcsin(cosine)) * cosine)


def _leaky(a: Decimal, c: Decimal, b: Decimal) -> Decimal:
    rest = ONE - SLOPE
    return SLOPE * SLOPE * c + SLOPE * rest * c + rest * rest * _relu(a, c, b)


def _quadrature(phi: Callable[[np.ndarray], np.ndarray]) -> Callable[[Decimal, Decimal, Decimal], Decimal]:
    """Two-dimensional Gauss-Hermite in double precision, for activations without a closed form."""
    node, weight = np.polynomial.hermite_e.hermegauss(160)
    weight = weight / weight.sum()

    def dual(a: Decimal, c: Decimal, b: Decimal) -> Decimal:
        first, second, cross = float(a), float(b), float(c)
        root = math.sqrt(first)
        slope = cross / root if root else 0.0
        left = math.sqrt(max(0.0, second - slope * slope))
        inner = phi(slope * node[:, None] + left * node[None, :]) @ weight
        return Decimal(float(weight @ (phi(root * node) * inner)))

    return dual


def duals() -> dict[str, Callable[[Decimal, Decimal, Decimal], Decimal]]:
    """E[phi(u) phi(v)] of every activation."""
    from scipy import special

    return {
        "erf": _erf,
        "relu": _relu,
        "leaky_relu": _leaky,
        "linear": lambda a, c, b: c,
        "quadratic": lambda a, c, b: a * b + 2 * c * c,
        "tanh": _quadrature(np.tanh),
        "gelu": _quadrature(lambda h: h * special.ndtr(h)),
        "sigmoid": _quadrature(special.expit),
        "silu": _quadrature(lambda h: h * special.expit(h)),
    }


def gram(x: np.ndarray, activation: str, depth: int, first: float = 1.0, scales: tuple[Decimal, ...] = ()) -> Matrix:
    """K of all points after ``depth`` hidden layers; ``first``: lambda_0. scales: Q_l of the layers, inside out."""
    dual, points = duals()[activation], [[Decimal(float(v)) for v in row] for row in x]
    norm = Decimal(first) * len(points[0])
    K = [[sum((u * v for u, v in zip(p, q, strict=True)), ZERO) / norm for q in points] for p in points]
    for layer in range(depth):
        scale = scales[layer] if scales else ONE
        count = range(len(K))
        upper = {(i, j): scale * dual(K[i][i], K[i][j], K[j][j]) for i in count for j in count if i <= j}
        K = [[upper[min(i, j), max(i, j)] for j in count] for i in count]
    return K


@dataclass
class Factor:
    """``A = s K + T`` as L D L^T."""

    lower: Matrix
    pivots: list[Decimal]

    @classmethod
    def of(cls, K: Matrix, scale: Decimal, ridge: Decimal) -> Factor:
        n = len(K)
        lower, pivots = [[ZERO] * n for _ in range(n)], []
        for i in range(n):
            for j in range(i + 1):
                value = scale * K[i][j] + (ridge if i == j else ZERO)
                value -= sum((lower[i][k] * lower[j][k] * pivots[k] for k in range(j)), ZERO)
                if i == j:
                    pivots.append(value)
                    lower[i][i] = ONE
                else:
                    lower[i][j] = value / pivots[j]
        return cls(lower, pivots)

    def solve(self, b: list[Decimal]) -> list[Decimal]:
        n, out = len(b), list(b)
        for i in range(n):
            out[i] -= sum((self.lower[i][k] * out[k] for k in range(i)), ZERO)
        out = [value / pivot for value, pivot in zip(out, self.pivots, strict=True)]
        for i in reversed(range(n)):
            out[i] -= sum((self.lower[k][i] * out[k] for k in range(i + 1, n)), ZERO)
        return out

    @property
    def log_det(self) -> Decimal:
        return sum((pivot.ln() for pivot in self.pivots), ZERO)


def dot(a: list[Decimal], b: list[Decimal]) -> Decimal:
    return sum((u * v for u, v in zip(a, b, strict=True)), ZERO)


@dataclass
class Problem:
    """Training points first, then the test points, under one kernel K that a scale multiplies."""

    K: Matrix
    y: list[Decimal]
    y_test: list[Decimal]
    temperature: Decimal

    @classmethod
    def of(cls, K: Matrix, y: np.ndarray, y_test: np.ndarray, temperature: float) -> Problem:
        return cls(K, [Decimal(float(v)) for v in y], [Decimal(float(v)) for v in y_test], Decimal(float(temperature)))

    @property
    def own(self) -> Matrix:
        count = len(self.y)
        return [row[:count] for row in self.K[:count]]

    def energy(self, scale: Decimal) -> Decimal:
        """-log N(y; 0, s K + T)."""
        factor = Factor.of(self.own, scale, self.temperature)
        return (factor.log_det + dot(self.y, factor.solve(self.y)) + len(self.y) * (2 * PI).ln()) / 2

    def data_term(self, scale: Decimal) -> Decimal:
        """-2 d energy / d log s = y A^-1 (A - T) A^-1 y - (P - T tr A^-1)."""
        factor, count = Factor.of(self.own, scale, self.temperature), len(self.y)
        a = factor.solve(self.y)
        columns = [factor.solve([ONE if i == j else ZERO for i in range(count)]) for j in range(count)]
        trace = sum((columns[j][j] for j in range(count)), ZERO)
        return dot(self.y, a) - self.temperature * dot(a, a) - (count - self.temperature * trace)

    def errors(self, scale: Decimal) -> tuple[Decimal, Decimal]:
        """(mean square difference of mean and target plus variance at the test points, train error)."""
        count, factor = len(self.y), Factor.of(self.own, scale, self.temperature)
        a, total = factor.solve(self.y), ZERO
        for k, target in enumerate(self.y_test):
            cross = [scale * value for value in self.K[count + k][:count]]
            variance = scale * self.K[count + k][count + k] - dot(cross, factor.solve(cross))
            total += (target - dot(cross, a)) ** 2 + variance
        columns = [factor.solve([ONE if i == j else ZERO for i in range(count)]) for j in range(count)]
        trace = sum((columns[j][j] for j in range(count)), ZERO)
        spread = self.temperature * (count - self.temperature * trace) / count
        return total / len(self.y_test), self.temperature**2 * dot(a, a) / count + spread


def saddle(problem: Problem, width: int, depth: int = 1) -> tuple[Decimal, Decimal]:
    """(q, F) of the deepest minimum of ``F = 1/2 L N (q - log q - 1) + energy(q^L)``, by bisection of dF/dlog q."""
    size, layers = Decimal(width), Decimal(depth)

    def slope(x: Decimal) -> Decimal:
        q = x.exp()
        return size * (q - 1) - problem.data_term(q**depth)

    squares = dot(problem.y, problem.y)
    high = (1 + squares / (4 * problem.temperature * size) + 1 / size).ln() + ONE
    trace = sum((row[i] for i, row in enumerate(problem.own)), ZERO)
    ratio = problem.temperature * size / (2 * trace) if trace else ONE  # below, sK is too small to push down
    low = min(-ONE, (1 - min(Decimal("0.99"), len(problem.y) / size)).ln() - 1, ratio.ln() / layers - 1)
    best: tuple[Decimal, Decimal] | None = None
    steps = int((high - low) / Decimal("0.25")) + 2
    grid = [low + (high - low) * k / (steps - 1) for k in range(steps)]
    slopes = [slope(x) for x in grid]
    for a, b, left, right in zip(grid, grid[1:], slopes, slopes[1:], strict=False):
        if not (left < 0 <= right):
            continue
        for _ in range(150):
            middle = (a + b) / 2
            a, b = (middle, b) if slope(middle) < 0 else (a, middle)
        q = ((a + b) / 2).exp()
        value = layers * size * (q - 1 - q.ln()) / 2 + problem.energy(q**depth)
        if best is None or value < best[1]:
            best = (q, value)
    assert best is not None
    return best


def log_gamma(z: Decimal) -> Decimal:
    """Stirling's series, after raising the argument above 60."""
    shift = ZERO
    while z < 60:
        shift, z = shift + z.ln(), z + 1
    numbers = ("1/12", "-1/360", "1/1260", "-1/1680", "1/1188", "-691/360360", "1/156", "-3617/122400", "43867/244188")
    series = ZERO
    for k, text in enumerate(numbers):
        numerator, denominator = text.split("/")
        series += Decimal(numerator) / Decimal(denominator) / z ** (2 * k + 1)
    return (z - Decimal("0.5")) * z.ln() - z + (2 * PI).ln() / 2 + series - shift


def integrated(problem: Problem, width: int) -> tuple[Decimal, Decimal, Decimal]:
    """(test error, train error, log evidence) of one hidden layer with s ~ chi2_N / N integrated: a trapezoid rule.

    The test error is the mean over s of the errors at fixed s: the spread of the mean over s moves between bias and
    variance only.
    """
    a = Decimal(width) / 2
    centre = saddle(problem, width)[0].ln()
    norm = a * a.ln() - log_gamma(a)

    def height(x: Decimal) -> Decimal:
        return norm + a * (x - x.exp()) - problem.energy(x.exp())

    top, step = height(centre), ONE / (a + len(problem.y)).sqrt()
    while top - height(centre + step) < 40 and top - height(centre - step) < 40:
        step *= 2
    ends = []
    for sign in (-1, 1):
        reach = step
        while top - height(centre + sign * reach) < 60:
            reach += step / 2
        ends.append(centre + sign * reach)
    count = 240
    spacing = (ends[1] - ends[0]) / count
    total = test = train = ZERO
    for k in range(count + 1):
        x = ends[0] + spacing * k
        weight = (height(x) - top).exp()
        if weight < Decimal("1e-24"):
            continue
        one, other = problem.errors(x.exp())
        total, test, train = total + weight, test + weight * one, train + weight * other
    return test / total, train / total, top + (total * spacing).ln()
