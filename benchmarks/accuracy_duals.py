"""How exact the Hermite series of activations are.

``python benchmarks/accuracy_duals.py`` prints docs/accuracy_of_duals.md.

References share nothing with the series: closed forms where there are some, else Gauss-Legendre panels in two
dimensions (one at correlation +-1), broken where the function has kinks.
"""

from __future__ import annotations

import time

import numpy as np
from scipy import special

from finitewidth.activations import Activation, activation_of

HEAD = """# Accuracy of the duals of activations

Produced by `python benchmarks/accuracy_duals.py`. The Hermite series, which serves every activation without a closed
form (and here, as a test, those with one), against references that share nothing with it: closed forms, or panels of
Gauss-Legendre nodes in two dimensions. Largest error over pairs of variances in the range and correlations from -1
to 1, both ends and 1 - 1e-8 included; relative to sqrt(kappa(c11, c11) kappa(c22, c22)).
"""
TAIL = """
What the package itself uses for erf, relu, leaky relu, linear and quadratic is the closed form, exact to rounding.
Smooth activations: better than 1e-8 up to variance 10, better than 1e-5 up to 100 (absolute; the more they oscillate,
the worse). A kink at 0 (relu, abs): better than 1e-8 relative everywhere. Kinks elsewhere, told to
`Activation.from_function(..., kinks=(-1, 1))`: rounding up to a correlation of 0.95; at correlations within 1e-3 of
+-1 about 1e-5 for equal variances and up to 2e-4 for unequal ones (points that are multiples of one another).
A function that jumps (sign, step) is 2e-3 off at correlations within 1e-3 of +-1; use a steep erf instead."""
CORRELATIONS = np.array([-1.0, -0.999, -0.9, -0.5, 0.0, 0.5, 0.9, 0.99, 0.999, 1.0 - 1e-5, 1.0 - 1e-8, 1.0])
RANGES = {"1e-3 to 10": (1e-3, 0.1, 1.0, 10.0), "10 to 100": (10.0, 30.0, 100.0)}
CLOSED = {
    "erf": special.erf,
    "relu": lambda x: np.maximum(x, 0.0),
    "leaky_relu": lambda x: np.where(x > 0.0, x, 0.01 * x),
    "linear": lambda x: 1.0 * x,
    "quadratic": np.square,
}
SERIES = {
    "tanh": (np.tanh, ()),
    "gelu": (lambda x: x * special.ndtr(x), ()),
    "sigmoid": (special.expit, ()),
    "silu": (lambda x: x * special.expit(x), ()),
    "user: sin(2x) + x/(1+x^2)": (lambda x: np.sin(2.0 * x) + x / (1.0 + x * x), ()),
    "user: abs": (np.abs, ()),
    "user: hard tanh, kinks given": (lambda x: np.clip(x, -1.0, 1.0), (-1.0, 1.0)),
}


def panels(edges):
    """Gauss-Legendre nodes and Gaussian weights on panels (..., edges)."""
    node, weight = np.polynomial.legendre.leggauss(16)
    half = 0.5 * np.diff(edges)[..., None]
    z = 0.5 * (edges[..., 1:] + edges[..., :-1])[..., None] + half * node
    w = half * weight * np.exp(-0.5 * z**2) / np.sqrt(2.0 * np.pi)
    shape = (*edges.shape[:-1], -1)
    return z.reshape(shape), w.reshape(shape)


def reference(phi, kinks, c11, rho, c22):
    """E[phi(u) phi(v)] by iterated quadrature."""
    breaks = np.array([0.0, *kinks])
    s1, s2, rest = np.sqrt(c11), np.sqrt(c22), np.sqrt((1.0 - rho) * (1.0 + rho))
    grid = np.arange(-9.5, 9.6, 0.25)
    places = np.concatenate([breaks / s1, np.sign(rho) * breaks / s2 if rest == 0.0 else []])
    z, w = panels(np.sort(np.concatenate([grid, np.clip(places, -9.5, 9.5)])))
    if rest == 0.0:
        return w @ (phi(s1 * z) * phi(rho * s2 * z))
    moving = np.clip((breaks / s2 - rho * z[:, None]) / rest, -9.5, 9.5)
    t, wt = panels(np.sort(np.concatenate([np.tile(grid, (len(z), 1)), moving], axis=1)))
    return w @ (phi(s1 * z) * (wt * phi(s2 * (rho * z[:, None] + rest * t))).sum(1))


def errors(series, exact, variances):
    """Largest absolute error, and relative to sqrt(kappa(c11, c11) kappa(c22, c22))."""
    absolute, relative = 0.0, 0.0
    for i, c11 in enumerate(variances):
        for c22 in variances[i:]:
            size = np.sqrt(float(series.kappa(c11, c11, c11)) * float(series.kappa(c22, c22, c22)))
            for rho in CORRELATIONS:
                error = abs(float(series.kappa(c11, rho * np.sqrt(c11 * c22), c22)) - float(exact(c11, rho, c22)))
                absolute, relative = max(absolute, error), max(relative, error / size)
    return absolute, relative


def main() -> None:
    """Print the page."""
    print(HEAD)
    print("| activation | reference | variances | largest absolute error | largest relative error |")
    print("|---|---|---|---|---|")
    started = time.perf_counter()
    for name, function in CLOSED.items():
        known, series = activation_of(name), Activation.from_function(function)
        for label, variances in RANGES.items():
            a, r = errors(series, lambda c, rho, d, k=known: k.kappa(c, rho * np.sqrt(c * d), d), variances)
            print(f"| {name} | closed form | {label} | {a:.1e} | {r:.1e} |")
    for name, (function, kinks) in SERIES.items():
        series = activation_of(name) if name.isalpha() else Activation.from_function(function, kinks=kinks)
        for label, variances in RANGES.items():
            a, r = errors(series, lambda c, rho, d, f=function, k=kinks: reference(f, k, c, rho, d), variances)
            print(f"| {name} | quadrature | {label} | {a:.1e} | {r:.1e} |")
    print(TAIL)
    print(f"\nTime: {time.perf_counter() - started:.0f} s.")


if __name__ == "__main__":
    main()
