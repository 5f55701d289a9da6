"""From a network, a temperature and a method to the theory that serves them."""

from __future__ import annotations

from typing import Any

from finitewidth import checks
from finitewidth.data import Dataset
from finitewidth.networks import Network
from finitewidth.theory.integrate import Integrated
from finitewidth.theory.nested import Nested
from finitewidth.theory.scaled import ScaledKernel
from finitewidth.theory.solution import Solution

CLOSURES = ("nested", "product")
METHODS = ("saddle", "integrate", "infinite")


def theory_of(network: Network, temperature: float, closure: str | None = None, method: str = "saddle") -> Any:
    """The theory of a network at a temperature (variance of the Gaussian likelihood).

    closure: of deep networks: "nested" (the default; nearer to sampled networks in every erf case tried) or "product"
        (one factorisation for all widths).
    method: "saddle", "integrate" (over the order parameters instead of the saddle), "infinite" (none of them).
    Raises InputError for anything else.
    """
    temperature = checks.positive("temperature", temperature)
    closure = checks.choice("closure", closure or "nested", CLOSURES)
    if checks.choice("method", method, METHODS) == "infinite":
        return ScaledKernel(network, temperature, infinite=True)
    same = network.depth == 1 or (network.phi.homogeneous and network.offset_precision is None)
    theory: Any
    if closure == "product" or same:
        theory = ScaledKernel(network, temperature)
    else:
        theory = Nested(network, temperature)  # type: ignore[arg-type]
    return Integrated(theory) if method == "integrate" else theory


def solve(theory: Any, train: Dataset, memory: float | None = None) -> Solution:
    """Solve a theory on a training set; ``memory`` caps the bytes it may take (default: what is free)."""
    solution: Solution = theory.solve(train, memory=memory)
    return solution
