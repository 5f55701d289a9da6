"""How the kernel at the top follows a covariance below it: derivatives of the infinite-width recursion, pair by pair.

The covariance of two points in the layer above depends on three numbers of the layer below, ``(C_aa, C_ab, C_bb)``, so
through any number of layers ``K_ab = F(C_aa, C_ab, C_bb)``: a gradient of three and a Hessian of six numbers a pair.
First derivatives of one layer are the activation's own (``Activation.kappa_gradient``); second ones are central
differences of these, but for ``d^2/dC_aa dC_bb = (d^2/dC_ab^2) / 4`` (Price 1958).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from finitewidth.activations import Activation
from finitewidth.networks import Network

Array = np.ndarray
_STEP = 1e-3  # of central differences, as a share of the distance to the end of the domain: their error is its square
_PARALLEL = 1e-7  # squared sine below which two points count as one


def covariances(network: Network, x: Array) -> list[Array]:
    """C_1 .. C_L of the preactivations of points ``x`` (n, ...), (n, n) each, at infinite width."""
    flat = x.reshape(len(x), -1)
    found = [flat @ flat.T / (network.weight_precision[0] * flat.shape[1]) + network.offset_variance]
    for precision in network.weight_precision[1:-1]:
        c = found[-1]
        variance = np.diagonal(c)
        above = network.phi.kappa(variance[:, None], c, variance[None, :])
        np.fill_diagonal(above, network.phi.dual.diagonal(variance)[0])
        found.append(above / precision + network.offset_variance)
    return found


@dataclass(frozen=True)
class PairDerivatives:
    """Derivatives of F for pairs of points a (rows, all n) and b (columns, the P training points), (n, P) each.

    first: in C_aa, C_ab, C_bb. second: in aa-aa, aa-ab, aa-bb, ab-ab, ab-bb, bb-bb. own, own_second: of the variance of
    every point in its own variance below, (n,). For a point with itself all of it stands in C_ab.
    """

    first: tuple[Array, Array, Array]
    second: tuple[Array, Array, Array, Array, Array, Array]
    own: Array
    own_second: Array

    @classmethod
    def identity(cls, points: int, train: int) -> PairDerivatives:
        """Of the covariance itself."""
        zero = np.zeros((points, train))
        return cls(
            (zero, np.ones((points, train)), zero), (zero, zero, zero, zero, zero, zero), np.ones(points), zero[:, 0]
        )

    def below(self, layer: PairDerivatives) -> PairDerivatives:
        """The chain rule: F as a function of what the layer below it is given.

        ``layer``: derivatives of the covariance between both, in the one below.
        """
        (ga, gc, gb), (haa, hac, hab, hcc, hcb, hbb) = self.first, self.second
        (ka, kc, kb), (kaa, kac, kab, kcc, kcb, kbb) = layer.first, layer.second
        sa, sb = layer.own[:, None], layer.own[None, : ga.shape[1]]
        ta, tb = layer.own_second[:, None], layer.own_second[None, : ga.shape[1]]
        first = (gc * ka + ga * sa, gc * kc, gc * kb + gb * sb)
        second = (
            haa * sa**2 + 2.0 * hac * sa * ka + hcc * ka**2 + gc * kaa + ga * ta,
            hac * sa * kc + hcc * ka * kc + gc * kac,
            hab * sa * sb + hac * sa * kb + hcb * ka * sb + hcc * ka * kb + gc * kab,
            hcc * kc**2 + gc * kcc,
            hcb * kc * sb + hcc * kc * kb + gc * kcb,
            hbb * sb**2 + 2.0 * hcb * kb * sb + hcc * kb**2 + gc * kbb + gb * tb,
        )
        own_second = self.own_second * layer.own**2 + self.own * layer.own_second
        return PairDerivatives(first, second, self.own * layer.own, own_second)

    def pulled_back(self, gradient: Array) -> Array:
        """Of ``<gradient, K>``, gradient (P, P), the matrix M with ``u^T M u`` its change along u u^T below, (P, P)."""
        ga, gc, gb = (part[: len(gradient)] for part in self.first)
        return gradient * gc + np.diag((gradient * ga).sum(1) + (gradient * gb).sum(0))

    def image(self, covariance: Array) -> tuple[Array, Array]:
        """The derivative of K, (n, P), and of its diagonal, (n,), along a change ``covariance`` (n, n) below."""
        variance = np.diagonal(covariance)
        ga, gc, gb = self.first
        train = gc.shape[1]
        return ga * variance[:, None] + gc * covariance[:, :train] + gb * variance[:train], self.own * variance


def layer_derivatives(phi: Activation, covariance: Array, train: int, precision: float) -> PairDerivatives:
    """Of one layer: ``kappa(C) / precision`` for C (n, n), of which the first ``train`` points are columns."""
    variance, c = np.diagonal(covariance), covariance[:, :train]
    product = variance[:, None] * variance[:train]
    sine = np.divide(product - c * c, product, out=np.zeros_like(c), where=product > 0.0)
    apart = sine > _PARALLEL
    one = np.where(apart, 1.0, 0.0)
    some = np.where(variance > 0.0, variance, 1.0)  # placeholders, which count for nothing
    a, b = some[:, None], some[None, :train]
    c, room = np.where(apart, c, 0.0), _STEP * np.where(apart, sine, 1.0)
    _, ka, kc, kb = phi.kappa_gradient(a, c, b)
    kac, kcc, kcb = _differences(phi, (a, c, b), (0.0, room * np.sqrt(a * b), 0.0))
    kaa = _differences(phi, (a, c, b), (room * a, 0.0, 0.0))[0]
    kbb = _differences(phi, (a, c, b), (0.0, 0.0, room * b))[2]
    own, own_second = _variances(phi, variance)
    here, there = own[:, None] * (1.0 - one), own_second[:, None] * (1.0 - one)
    first = (one * ka, one * kc + here, one * kb)
    second = (one * kaa, one * kac, one * kcc / 4.0, one * kcc + there, one * kcb, one * kbb)
    return PairDerivatives(
        tuple(part / precision for part in first),  # type: ignore[arg-type]
        tuple(part / precision for part in second),
        own / precision,
        own_second / precision,
    )


def _differences(phi: Activation, at: tuple[Array, Array, Array], step: tuple[Array | float, ...]) -> tuple[Array, ...]:
    """Central differences of kappa's gradient along one of its three arguments."""
    size = 2.0 * (step[0] + step[1] + step[2])
    up = phi.kappa_gradient(*(value + s for value, s in zip(at, step, strict=True)))
    down = phi.kappa_gradient(*(value - s for value, s in zip(at, step, strict=True)))
    return tuple((u - d) / size for u, d in zip(up[1:], down[1:], strict=True))


def _variances(phi: Activation, variance: Array) -> tuple[Array, Array]:
    """First and second derivative of E[phi(u)^2] in the variance of u."""
    step = _STEP * np.maximum(variance, np.finfo(float).tiny)
    slope = phi.dual.diagonal(variance)[1]
    second = (phi.dual.diagonal(variance + step)[1] - phi.dual.diagonal(variance - step)[1]) / (2.0 * step)
    return slope, np.where(variance > 0.0, second, 0.0)


def derivatives_from_top(network: Network, found: list[Array], train: int) -> Iterator[tuple[int, PairDerivatives]]:
    """(l, derivatives of K in the covariance that layer l makes), l = L .. 1, ``found``: C_1 .. C_L."""
    points = len(found[0])
    above = PairDerivatives.identity(points, train)
    yield network.depth, above
    for layer in range(network.depth - 1, 0, -1):
        last = layer == network.depth - 1
        precision = network.readout_precision if last else network.weight_precision[layer + 1]
        above = above.below(layer_derivatives(network.phi, found[layer], train, precision))
        yield layer, above
