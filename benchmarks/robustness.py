"""Extreme cases beside a second route: ``python benchmarks/robustness.py`` writes their table into docs/testing.md.

``--large`` adds P = 10,000 (3.2 GB, some minutes). The second route shares nothing with the package (``precise.py``: 60
decimal digits), or is a symmetry of the theory, or a descent of our own on the action.
"""

from __future__ import annotations

import argparse
import math
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import parts
import precise
from scipy import linalg, optimize, special

import finitewidth as fw

RIGHT, CONDITIONED, REFUSED, FLAGGED, MISS = "right", "right to rounding", "refused", "flagged", "missed"
TOLERANCE = 1e-6  # relative, of errors; of the log evidence, per training point in nats
EPSILON = np.finfo(float).eps
Answer = tuple[float, ...]  # test error, train error, log evidence


@dataclass(frozen=True)
class Case:
    """ask: what the package is asked, (answer, order parameters) or an error. truth: the answer by another route.

    rounding: relative error that double precision allows, 4 eps times the condition number of A.
    """

    group: str
    asked: str
    method: str
    route: str
    ask: Callable[[], tuple[Answer, Any]]
    truth: Callable[[], Answer]
    rounding: Callable[[], float] = lambda: 0.0


@dataclass(frozen=True)
class Outcome:
    case: Case
    came: str
    deviation: float
    verdict: str


class NotConverged(Exception):
    """The package says itself that it did not."""


def judged(case: Case) -> Outcome:
    """What came of a case."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ours, q = case.ask()
    except fw.InputError as error:
        return Outcome(case, f"{error.given}; {error.remedy}", math.nan, REFUSED)
    except NotConverged as error:
        return Outcome(case, str(error), math.nan, FLAGGED)
    came = f"test {ours[0]:.6g}, Q {q}"
    return Outcome(case, came, *compared(ours, case.truth(), case.rounding()))


def compared(ours: Answer, truth: Answer, rounding: float) -> tuple[float, str]:
    """(largest relative deviation, verdict); errors in units of themselves, the evidence of 1 + |evidence|."""
    if not all(map(math.isfinite, ours)):
        return math.inf, MISS
    gaps = [abs(a - b) / abs(b) if b else abs(a) for a, b in zip(ours[:2], truth[:2], strict=True)]
    gaps += [abs(a - b) / (1.0 + abs(b)) for a, b in zip(ours[2:], truth[2:], strict=True)]
    worst = max(gaps)
    if worst <= TOLERANCE:
        return worst, RIGHT
    return worst, CONDITIONED if worst <= rounding else MISS


# --- what the package is asked ----------------------------------------------------------------------------------------


def asked(network: Any, train: fw.Dataset, test: fw.Dataset, temperature: float, **options: Any) -> tuple[Answer, Any]:
    """Test error, train error, log evidence, and a text of Q."""
    solution = fw.solve(fw.theory_of(network, temperature, **options), train)
    if not solution.converged:
        raise NotConverged(solution.message)
    errors = fw.predict(solution, test.x).errors(test.y)
    q = np.ravel(solution.order_parameters)
    text = " ".join(f"{value:.4g}" for value in q[:3]) + (" ..." if q.size > 3 else "") if q.size else "none"
    return (errors.test_error, errors.train_error, solution.log_evidence), text


def points(count: int, inputs: int, seed: int = 0, test: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets, training points first."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count + test, inputs))
    return x, x[:, 0] + 0.5 * x[:, -1] ** 2 - 0.5 + 0.3 * rng.standard_normal(count + test)


def sets(x: np.ndarray, y: np.ndarray, test: int = 3) -> tuple[fw.Dataset, fw.Dataset]:
    return fw.Dataset(x[:-test], y[:-test], classes=()), fw.Dataset(x[-test:], y[-test:], classes=())


# --- the route of 60 digits: theories that rescale one kernel ---------------------------------------------------------


def scaled(
    group: str,
    text: str,
    x: np.ndarray,
    y: np.ndarray,
    temperature: float,
    width: int = 30,
    activation: str = "erf",
    depth: int = 1,
    method: str = "saddle",
    first: float = 1.0,
) -> Case:
    """One case with equal widths; deep networks in the product closure."""
    train, test = sets(x, y)
    precision = (first, *(1.0,) * depth)
    network = fw.FullyConnected(widths=(width,) * depth, activation=activation, weight_precision=precision)

    def ask() -> tuple[Answer, Any]:
        closure = "product" if depth > 1 else None
        return asked(network, train, test, temperature, method=method, closure=closure)

    def problem() -> precise.Problem:
        return precise.Problem.of(precise.gram(x, activation, depth, first), train.y, test.y, temperature)

    def truth() -> Answer:
        exact = problem()
        if method == "integrate":
            one, other, evidence = precise.integrated(exact, width)
        elif method == "infinite":
            (one, other), evidence = exact.errors(Decimal(1)), -exact.energy(Decimal(1))
        else:
            q, value = precise.saddle(exact, width, depth)
            (one, other), evidence = exact.errors(q**depth), -value
        return float(one), float(other), float(evidence)

    def rounding() -> float:
        largest = max(abs(float(value)) for row in precise.gram(x[:-3], activation, depth, first) for value in row)
        return 4.0 * EPSILON * (1.0 + len(train) * largest / temperature)

    return Case(group, text, method, "60 digits", ask, truth, rounding)


def temperatures() -> Iterator[Case]:
    x, y = points(4, 3)
    for exponent in (-12, -9, -6, -3, 0, 3, 6):
        for method in ("saddle", "integrate", "infinite"):
            yield scaled("temperature", f"T = 1e{exponent}, erf, N = 30", x, y, 10.0**exponent, method=method)


def widths() -> Iterator[Case]:
    x, y = points(4, 3)
    for width in (1, 2, 10, 10**3, 10**6, 10**9, 10**12):
        for activation, method in (("relu", "saddle"), ("linear", "integrate")):
            yield scaled(
                "width", f"N = {width:.0e}, {activation}, T = 0.1", x, y, 0.1, width, activation, method=method
            )


def conditions() -> Iterator[Case]:
    rng = np.random.default_rng(0)
    for exponent in (0, 4, 8, 12, 16):
        u, v = linalg.qr(rng.standard_normal((4, 4)))[0], linalg.qr(rng.standard_normal((4, 4)))[0]
        x = (u * np.logspace(0, -exponent / 2, 4)) @ v
        x = np.vstack([x, rng.standard_normal((3, 4))])
        y = np.concatenate([x[:4] @ np.ones(4), rng.standard_normal(3)])
        for temperature in (1e-2, 1e-8):
            for method in ("saddle", "infinite"):
                text = f"condition number 1e{exponent}, T = {temperature:g}, linear, N = 50"
                yield scaled("condition number", text, x, y, temperature, 50, "linear", method=method)


def scales() -> Iterator[Case]:
    x, y = points(4, 3)
    for exponent in (-150, -75, -8, 8, 60, 75, 150):
        c = 10.0**exponent
        for activation in ("erf", "relu"):
            yield scaled(
                "scale of x", f"x times 1e{exponent}, {activation}, T = 0.1", c * x, y, 0.1, activation=activation
            )
        yield scaled("scale of y", f"y times 1e{exponent}, erf, T = 0.1", x, c * y, 0.1)
        yield rescaled(exponent)


def rescaled(exponent: int) -> Case:
    """X -> c X with lambda_0 -> c^2 lambda_0 leaves every prediction as it is, for every activation."""
    x, y = points(6, 3)
    c = 10.0**exponent

    def solved(factor: float) -> tuple[Answer, Any]:
        network = fw.FullyConnected(widths=(20, 10), activation="tanh", weight_precision=(factor**2, 1.0, 1.0))
        return asked(network, *sets(factor * x, y), 0.05)

    text = f"x times 1e{exponent}, lambda_0 times 1e{2 * exponent}, tanh, L = 2, nested"
    return Case("scale of x", text, "saddle", "symmetry", lambda: solved(c), lambda: solved(1.0)[0])


def duplicates() -> Iterator[Case]:
    x, y = points(4, 3)
    twice, same = x.copy(), y.copy()
    twice[1], same[1] = x[0], y[0]
    constant, zeros, equal = x.copy(), x.copy(), np.ones_like(x)
    constant[:, 0], zeros[0] = 1.0, 0.0
    named = (
        ("a row twice, equal targets", twice, same),
        ("a row twice, contradictory targets", twice, y),
        ("a constant column", constant, y),
        ("a row of zeros", zeros, y),
        ("all rows equal", equal, y),
        ("all inputs zero", 0.0 * x, y),
        ("all targets zero", x, 0.0 * y),
    )
    for text, inputs, targets in named:
        for temperature in (0.1, 1e-9):
            for activation in ("erf", "relu"):
                full = f"{text}, {activation}, T = {temperature:g}"
                yield scaled("repeated rows, constant columns", full, inputs, targets, temperature, 20, activation)
    yield scaled("number of points", "P = 1, erf, T = 0.1", *points(1, 3), 0.1)
    yield scaled("number of points", "P = 2, erf, T = 0.1, integrate", *points(2, 3), 0.1, method="integrate")


def activations() -> Iterator[Case]:
    x, y = points(4, 3)
    for activation in precise.duals():
        for depth in (1, 2):
            for method in ("saddle", "infinite"):
                text = f"{activation}, L = {depth}, N = 20, T = 0.1"
                yield scaled("activation", text, x, y, 0.1, 20, activation, depth, method)


def depths() -> Iterator[Case]:
    x, y = points(4, 3)
    for depth in (1, 2, 3, 5, 10, 20):
        for activation in ("erf", "relu"):
            yield scaled(
                "depth, product closure",
                f"L = {depth}, {activation}, N = 20, T = 0.1",
                x,
                y,
                0.1,
                20,
                activation,
                depth,
            )
        yield nested(depth)


def nested(depth: int) -> Case:
    """The nested closure, whose action and its derivatives are taken in 60 digits."""
    x, y = points(3, 3)
    train, test = sets(x, y)
    network = fw.FullyConnected(widths=(20,) * depth, activation="erf")
    found: list[Any] = []

    def ask() -> tuple[Answer, Any]:
        solution = fw.solve(fw.theory_of(network, 0.1, closure="nested"), train)
        if not solution.converged:
            raise NotConverged(solution.message)
        found[:] = [solution.order_parameters]
        errors = fw.predict(solution, test.x).errors(test.y)
        return (errors.test_error, errors.train_error, solution.log_evidence), f"{solution.order_parameters[0]:.4g} ..."

    def at(log_q: list[Decimal]) -> tuple[Decimal, precise.Problem]:
        q = tuple(v.exp() for v in log_q)
        problem = precise.Problem.of(precise.gram(x, "erf", depth, 1.0, q), train.y, test.y, 0.1)
        rate = sum((20 * (v - 1 - v.ln()) for v in q), Decimal(0))
        return rate / 2 + problem.energy(Decimal(1)), problem

    def truth() -> Answer:
        """One Newton step for every layer from the package's Q, by differences in 60 digits; a minimum stays put."""
        log_q, h = [Decimal(float(v)).ln() for v in found[0]], Decimal("1e-15")
        value = at(log_q)[0]
        moved = list(log_q)
        for layer in range(depth):
            up, down = (at([v + (sign * h if k == layer else 0) for k, v in enumerate(log_q)])[0] for sign in (1, -1))
            curvature = (up - 2 * value + down) / h**2
            moved[layer] -= (up - down) / (2 * h) / curvature if curvature > 0 else Decimal(1)
        value, problem = at(moved)
        one, other = problem.errors(Decimal(1))
        return float(one), float(other), -float(value)

    return Case("depth, nested closure", f"L = {depth}, erf, N = 20, T = 0.1", "saddle", "60 digits", ask, truth)


# --- larger and other architectures: double precision, written anew ---------------------------------------------------


def many(count: int, temperature: float) -> Case:
    """Many points: Cholesky factors and Brent's method on the derivative of the action."""
    x, y = points(count, 10, test=20)
    train, test = sets(x, y, 20)
    network = fw.FullyConnected(widths=(50,))

    def truth() -> Answer:
        K = 2.0 / np.pi * np.arcsin(_erf_argument(x))
        own, cross, prior = K[:count, :count], K[count:, :count], np.diagonal(K)[count:]

        def posterior(q: float) -> tuple[Any, Any]:
            factor = linalg.cho_factor(q * own + temperature * np.eye(count), lower=True)
            return factor, linalg.cho_solve(factor, y[:count])

        def slope(log_q: float) -> float:
            factor, a = posterior(math.exp(log_q))
            filtered = count - temperature * np.trace(linalg.cho_solve(factor, np.eye(count)))
            return 50.0 * math.expm1(log_q) - float(y[:count] @ a - temperature * a @ a - filtered)

        q = math.exp(optimize.brentq(slope, -8.0, 8.0, xtol=1e-12))
        factor, a = posterior(q)
        variance = q * prior - np.einsum("pi,ip->p", q * cross, linalg.cho_solve(factor, q * cross.T))
        test_error = float(np.mean((y[count:] - q * cross @ a) ** 2 + variance))
        trace = count - temperature * np.trace(linalg.cho_solve(factor, np.eye(count)))
        energy = np.log(np.diagonal(factor[0])).sum() + 0.5 * (y[:count] @ a + count * math.log(2 * math.pi))
        value = 25.0 * (q - 1.0 - math.log(q)) + energy
        return test_error, temperature**2 * float(a @ a) / count + temperature * float(trace) / count, -float(value)

    def ask() -> tuple[Answer, Any]:
        return asked(network, train, test, temperature, method=fw.Saddle(solver="exact"))

    text = f"P = {count}, T = {temperature:g}, erf, N = 50"
    return Case(
        "number of points",
        text,
        "saddle",
        "Cholesky, Brent",
        ask,
        truth,
        lambda: 4.0 * EPSILON * (1.0 + count / temperature),
    )


def _erf_argument(x: np.ndarray, inputs: int | None = None) -> np.ndarray:
    c = x @ x.T / (inputs or x.shape[1])
    own = 1.0 + 2.0 * np.diagonal(c)
    return 2.0 * c / np.sqrt(own[:, None] * own[None, :])


def local(kind: str, channels: int, temperature: float, method: str = "saddle", scale: float = 1.0) -> Case:
    """Networks on patches: a descent of our own (BFGS with differences) on the action, from several starts."""
    rng = np.random.default_rng(1)
    images, y = scale * rng.standard_normal((8, 2, 4)), rng.standard_normal(8)
    train, test = sets(images, y)
    pool = "average" if kind == "pooled" else "none"
    make = fw.LocallyConnected if kind == "locally connected" else fw.Convolutional
    network = make(channels=channels, patch=2, pool=pool)
    patches = np.stack([images[:, :, :2].reshape(8, 4), images[:, :, 2:].reshape(8, 4)])  # (patches, points, 4)
    K = np.array([[_between(patches[i], patches[j]) for j in range(2)] for i in range(2)])

    def mixed(Q: np.ndarray) -> np.ndarray:
        return np.einsum("ij,ijab->ab", Q, K) / (4.0 if kind == "pooled" else 2.0)

    def matrix(v: np.ndarray) -> np.ndarray:
        if kind == "pooled":
            return np.full((2, 2), math.exp(v[0]))
        if kind == "locally connected":
            return np.diag(np.exp(v))
        half = np.array([[math.exp(v[0]), 0.0], [v[1], math.exp(v[2])]])
        return half @ half.T

    def rate(v: np.ndarray) -> float:
        if kind != "convolutional":
            return float(channels * (np.expm1(v) - v).sum())
        Q = matrix(v)
        return channels * (float(np.trace(Q)) - 2.0 - 2.0 * (v[0] + v[2]))

    def action(v: np.ndarray) -> float:
        if np.abs(v).max() > 25.0:
            return 1e300
        A = mixed(matrix(v))[:5, :5] + temperature * np.eye(5)
        return 0.5 * (rate(v) + np.linalg.slogdet(A)[1] + y[:5] @ np.linalg.solve(A, y[:5]) + 5 * math.log(2 * math.pi))

    def truth() -> Answer:
        size = {"pooled": 1, "locally connected": 2, "convolutional": 3}[kind]
        starts = [np.zeros(size), *(0.5 * rng.standard_normal((6, size)))]
        if method == "infinite":
            best: Any = optimize.OptimizeResult(x=np.zeros(size), fun=action(np.zeros(size)))
        else:
            options = {"xatol": 1e-10, "fatol": 1e-13, "maxiter": 20000, "maxfev": 20000}
            runs = [optimize.minimize(action, v, method="Nelder-Mead", options=options) for v in starts]
            best = min(runs, key=lambda run: run.fun)
        KR = mixed(matrix(best.x))
        A, cross = KR[:5, :5] + temperature * np.eye(5), KR[5:, :5]
        a = np.linalg.solve(A, y[:5])
        variance = np.diagonal(KR)[5:] - np.einsum("pi,ip->p", cross, np.linalg.solve(A, cross.T))
        trace = 5.0 - temperature * np.trace(np.linalg.inv(A))
        train_error = temperature**2 * float(a @ a) / 5 + temperature * float(trace) / 5
        return float(np.mean((y[5:] - cross @ a) ** 2 + variance)), train_error, -float(best.fun)

    def ask() -> tuple[Answer, Any]:
        return asked(network, train, test, temperature, method=method)

    times = "" if scale == 1.0 else f", x times {scale:g}"
    text = f"{kind}, N = {channels:.0e}, T = {temperature:g}{times}"

    def allowed() -> float:
        return max(4.0 * EPSILON * (1.0 + 5.0 * float(np.abs(K).max()) / temperature), 1e-5)  # no gradients, no more

    return Case("networks on patches", text, method, "descent", ask, truth, allowed)


def _between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """erf kernel of patches a with patches b, (points, points)."""
    own, other = 1.0 + 2.0 * np.einsum("pi,pi->p", a, a) / 4.0, 1.0 + 2.0 * np.einsum("pi,pi->p", b, b) / 4.0
    cosine = 2.0 * (a @ b.T / 4.0) / np.sqrt(own)[:, None] / np.sqrt(other)[None, :]
    return 2.0 / np.pi * np.arcsin(np.clip(cosine, -1.0, 1.0))


def locals_() -> Iterator[Case]:
    for kind in ("convolutional", "locally connected", "pooled"):
        for temperature in (1e-6, 0.1, 1e6):
            for channels in (1, 10, 10**6):
                yield local(kind, channels, temperature)
        yield local(kind, 10, 0.1, "infinite")
        for scale in (1e-8, 1e8, 1e-150, 1e150):
            yield local(kind, 10, 0.1, scale=scale)


def outputs() -> Iterator[Case]:
    """Several outputs: independent ones at infinite width; huge widths tend to that limit as 1/N."""
    x, y = points(5, 3)
    several = np.stack([y, -y, x[:, 1]], axis=1)
    train, test = sets(x, several)
    for width, temperature in ((10**12, 0.1), (10**12, 1e-6), (10**12, 1e6)):
        network = fw.FullyConnected(widths=(width,))

        def truth(temperature: float = temperature) -> Answer:
            K = special.erf(0.0) + 2.0 / np.pi * np.arcsin(_erf_argument(x))
            A, cross = K[:5, :5] + temperature * np.eye(5), K[5:, :5]
            a = np.linalg.solve(A, several[:5])
            variance = np.diagonal(K)[5:] - np.einsum("pi,ip->p", cross, np.linalg.solve(A, cross.T))
            trace = 5.0 - temperature * np.trace(np.linalg.inv(A))
            train_error = temperature**2 * float((a**2).mean()) + temperature * float(trace) / 5
            energy = 1.5 * np.linalg.slogdet(A)[1] + 0.5 * float((several[:5] * a).sum()) + 7.5 * math.log(2 * math.pi)
            return float(np.mean((several[5:] - cross @ a) ** 2) + variance.mean()), train_error, -float(energy)

        def ask(network: Any = network, temperature: float = temperature) -> tuple[Answer, Any]:
            return asked(network, train, test, temperature)

        def allowed(temperature: float = temperature) -> float:
            return 4.0 * EPSILON * (1.0 + 5.0 / temperature)

        text = f"3 outputs, N = {width:.0e}, T = {temperature:g}, erf"
        yield Case("several outputs", text, "saddle", "infinite width", ask, truth, allowed)


GROUPS = (temperatures, widths, conditions, scales, duplicates, activations, depths, locals_, outputs)


def cases(large: bool = False) -> Iterator[Case]:
    """Every case; with ``large`` P = 10,000 too."""
    for group in GROUPS:
        yield from group()
    for count in (10, 100, 1000, *((10_000,) if large else ())):
        for temperature in (0.1, 1e-6):
            if count < 10_000 or temperature == 0.1:
                yield many(count, temperature)


# --- the table --------------------------------------------------------------------------------------------------------


def table(outcomes: list[Outcome]) -> list[str]:
    """One line a group: how many cases, and the largest deviation from the second route."""
    groups: dict[str, list[Outcome]] = {}
    for one in outcomes:
        groups.setdefault(one.case.group, []).append(one)
    lines = ["| extreme | second route | cases | right | largest deviation | others |", "|---|---|---|---|---|---|"]
    for group, members in groups.items():
        routes = "; ".join(dict.fromkeys(one.case.route for one in members))
        largest = max((one.deviation for one in members if not math.isnan(one.deviation)), default=math.nan)
        others = "; ".join(f"{one.case.asked}: {one.verdict}" for one in members if one.verdict != RIGHT)
        right = sum(one.verdict == RIGHT for one in members)
        lines.append(f"| {group} | {routes} | {len(members)} | {right} | {largest:.0e} | {others} |")
    counts = {name: sum(o.verdict == name for o in outcomes) for name in (RIGHT, CONDITIONED, REFUSED, FLAGGED, MISS)}
    shown = ", ".join(f"{number} {name}" for name, number in counts.items())
    return [*lines, "", f"Of {len(outcomes)} cases: {shown}."]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", action="store_true", help="P = 10,000 too")
    outcomes = []
    for case in cases(parser.parse_args().large):
        outcomes.append(judged(case))
        print(f"{case.group}: {case.asked}, {case.method}: {outcomes[-1].came}, {outcomes[-1].verdict}", flush=True)
    parts.write("testing.md", "make robustness", table(outcomes))
    return 0


if __name__ == "__main__":
    sys.exit(main())
