"""How exact the duals of activations are, at every size of the inputs.

``python benchmarks/accuracy_duals.py`` writes two tables of docs/infinite_width.md (five minutes).

The reference shares nothing with the package: iterated Gauss-Legendre quadrature over panels that narrow geometrically
towards 0, so that a step of width 1 is resolved at every size, and in the inner integral towards the place where the
second argument is 0, from where its nodes are counted, so that nearly parallel points cancel nothing. Sizes and
correlations are such that covariances are exact in double precision.
"""

from __future__ import annotations

import itertools
from functools import lru_cache

import numpy as np
import parts
from scipy import special

from finitewidth.activations import Activation, activation_of, names
from finitewidth.checks.exceptions import InputError

DECADES = (-6, -4, -2, 0, 1, 2, 3, 4, 6, 8)
COMPLEMENTS = (1.0, 0.25, 2.0**-7, 2.0**-20, 2.0**-43, 0.0)  # 1 - |correlation|
UNEQUAL = (0.25, 2.0**-20)  # of these, those of points of unequal sizes
SECH2 = lambda x: 1.0 / np.cosh(np.clip(x, -350.0, 350.0)) ** 2  # noqa: E731
DENSITY = lambda x: np.exp(-0.5 * np.minimum(x * x, 1400.0)) / np.sqrt(2.0 * np.pi)  # noqa: E731
GAUSS = lambda x: 2.0 / np.sqrt(np.pi) * np.exp(-np.minimum(x * x, 700.0))  # noqa: E731
BELL = lambda x: 0.25 * SECH2(0.5 * x)  # noqa: E731
DERIVATIVES = {  # phi' and, where it is a function, phi''
    "erf": (GAUSS, lambda x: -2.0 * x * GAUSS(x)),
    "relu": (lambda x: 1.0 * (x > 0.0), None),
    "leaky_relu": (lambda x: np.where(x > 0.0, 1.0, 0.01), None),
    "linear": (np.ones_like, np.zeros_like),
    "quadratic": (lambda x: 2.0 * x, lambda x: np.full_like(x, 2.0)),
    "tanh": (SECH2, lambda x: -2.0 * np.tanh(x) * SECH2(x)),
    "gelu": (lambda x: special.ndtr(x) + x * DENSITY(x), lambda x: (2.0 - x * x) * DENSITY(x)),
    "sigmoid": (BELL, lambda x: -BELL(x) * np.tanh(0.5 * x)),
    "silu": (lambda x: special.expit(x) + x * BELL(x), lambda x: (2.0 - x * np.tanh(0.5 * x)) * BELL(x)),
}
SERIES = {
    "tanh": (np.tanh, SECH2, ()),
    "softplus": (lambda x: np.logaddexp(0.0, x), special.expit, ()),
    "elu": (lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))), lambda x: np.exp(np.minimum(x, 0.0)), ()),
    "sin(2x) + x/(1+x^2)": (
        lambda x: np.sin(2.0 * x) + x / (1.0 + x * x),
        lambda x: 2.0 * np.cos(2.0 * x) + (1.0 - x * x) / (1.0 + x * x) ** 2,
        (),
    ),
    "abs": (np.abs, np.sign, ()),
    "hard tanh": (lambda x: np.clip(x, -1.0, 1.0), lambda x: 1.0 * (np.abs(x) < 1.0), (-1.0, 1.0)),
}
REACH, COARSE, FINE = 9.5, 15, 77  # edges of even panels; the fine ones resolve sin(20 z)
FAR = REACH * 3.0 ** -np.arange(1.0, 22.0)
NEAR = np.concatenate([-FAR, [0.0], FAR])


def panels(edges, origin=0.0):
    """Gauss-Legendre nodes, counted from ``origin``, and weights times the Gaussian density: (..., edges) each."""
    node, weight = np.polynomial.legendre.leggauss(16)
    half = 0.5 * np.diff(edges)[..., None]
    z = (0.5 * (edges[..., 1:] + edges[..., :-1])[..., None] + half * node).reshape(*edges.shape[:-1], -1)
    density = np.exp(-0.5 * (z + np.asarray(origin)[..., None]) ** 2) / np.sqrt(2.0 * np.pi)
    return z, (half * weight).reshape(z.shape) * density


@lru_cache(maxsize=4)
def rule(complement, sign, kinks=(), s1=1.0, s2=1.0, edges=COARSE):
    """Nodes u and weights (outer,), nodes v and weights (outer, inner) of correlation ``sign (1 - complement)``.

    Without kinks the nodes are those of size 1, for all sizes to share.
    """
    breaks, even = np.array(kinks), np.linspace(-REACH, REACH, edges)
    if complement == 0.0:
        x, w = panels(np.sort(np.clip(np.concatenate([even, NEAR, breaks / s1, sign * breaks / s2]), -REACH, REACH)))
        return s1 * x, w, sign * s2 * x[:, None], np.ones((len(x), 1))
    x, w = panels(np.sort(np.concatenate([even, NEAR, np.clip(breaks / s1, -REACH, REACH)])))
    rho, rest = sign * (1.0 - complement), np.sqrt(complement * (2.0 - complement))
    zero = (-rho * x / rest)[:, None]  # where v = 0; nodes are counted from there where that is inside
    origin = np.where(np.abs(zero) < REACH, zero, 0.0)
    ends = np.concatenate([even - origin, np.append(NEAR, breaks / (s2 * rest)) + (zero - origin)], axis=1)
    d, wd = panels(np.sort(np.clip(ends, -REACH - origin, REACH - origin), axis=1), origin[:, 0])
    return s1 * x, w, s2 * rest * (d + (origin - zero)), wd


def expectations(f, g, pair, s1=1.0, s2=1.0):
    """E[f(s1 u) g(s2 v)] and E|f(s1 u) g(s2 v)|."""
    u, w, v, wv = pair
    f, g = f(s1 * u), g(s2 * v)
    return w @ (f * (wv * g).sum(1)), w @ (np.abs(f) * (wv * np.abs(g)).sum(1))


def in_kernels(dual, c11, c12, c22):
    """kappa and kappa' as neural tangent kernels compute them, in place."""
    rows = dual.prepare(np.array([c11, c22]))
    value, slope = np.array([c12]), np.ones(1)
    dual.advance_both(rows[:, :1], rows[:, 1:], value, slope)
    return value, slope


def errors(activation, slope, curve, s1, s2, complement, sign):
    """Errors of kappa, kappa' and d kappa/d c11 on the scales of the page; zero for the last where phi'' is none."""
    phi, pair = activation.function, rule(complement, sign)
    at = s1**2, sign * (1.0 - complement) * s1 * s2, s2**2
    value, d11, d12, _ = activation.kappa_gradient(*at)
    other, other12 = in_kernels(activation.dual, *at)
    own = np.prod([expectations(phi, phi, rule(0.0, 1.0), s, s)[0] for s in (s1, s2)])
    cases = [((value, other), expectations(phi, phi, pair, s1, s2)[0], np.sqrt(own))]
    cases += [((d12, other12), *expectations(slope, slope, pair, s1, s2))]
    cases += [((2.0 * d11,), *(expectations(curve, phi, pair, s1, s2) if curve else (2.0 * d11, 1.0)))]
    return [max(abs(float(np.ravel(v)[0]) - r) for v in got) / max(s, 1e-300) for got, r, s in cases]


def power_of_two(decade):
    return 2.0 ** round(decade * np.log2(10.0))


def known() -> list[str]:
    """The largest errors of the activations known by name, over all sizes."""
    lines = ["| activation | $\\kappa$ | $\\kappa'$ | $\\partial\\kappa/\\partial c_{11}$ |", "|---|---|---|---|"]
    for name in names():
        largest = np.max([errors_at(name, power_of_two(decade)) for decade in DECADES], axis=0)
        cells = [f"{value:.0e}" for value in largest]
        if DERIVATIVES[name][1] is None:
            cells[2] = ""
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def errors_at(name, size):
    """The largest errors of pairs with a point of that size: (3,)."""
    largest = np.zeros(3)
    for complement in COMPLEMENTS:
        for sign in (1.0, -1.0):
            pairs = {(size, size)}
            if complement in UNEQUAL:
                pairs |= {(size, 1.0), (power_of_two(-6), size)}
            for pair in pairs:
                here = errors(activation_of(name), *DERIVATIVES[name], *pair, complement, sign)
                largest = np.maximum(largest, here)
    return largest


def own() -> list[str]:
    """Functions that go through the series."""
    sizes = (1.0, 10.0, 100.0)
    titles = [f"{what}, size {size:g}" for what in ("$\\kappa$", "$\\kappa'$") for size in sizes]
    lines = [f"| function | {' | '.join(titles)} |", "|---|---|---|---|---|---|---|"]
    for name, (function, slope, kinks) in SERIES.items():
        activation = Activation.from_function(function, kinks=kinks)
        cells = []
        for place, size in itertools.product((0, 1), sizes):
            try:
                cells.append(f"{_own_error(name, activation, function, slope, kinks, size, place):.0e}")
            except InputError:
                cells.append("refused")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _own_error(name, activation, function, slope, kinks, s, place):
    largest, f, edges = 0.0, slope if place else function, FINE if name.startswith("sin") else COARSE
    scale = expectations(f, f, rule(0.0, 1.0, kinks, s, s, edges))[0]
    for complement in (1.0, 0.25, 2.0**-7, 2.0**-12, 2.0**-20, 0.0):
        for sign in (1.0, -1.0):
            c12 = sign * (1.0 - complement) * s * s
            got = activation.kappa_gradient(s * s, c12, s * s)[2] if place else activation.kappa(s * s, c12, s * s)
            right = expectations(f, f, rule(complement, sign, kinks, s, s, edges))[0]
            largest = max(largest, abs(float(got) - right) / scale)
    return largest


if __name__ == "__main__":
    parts.write("infinite_width.md", "named activations", known())
    parts.write("infinite_width.md", "own functions", own())
