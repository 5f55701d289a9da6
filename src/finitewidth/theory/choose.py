"""From a network, a temperature and a method to the theory that serves them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from finitewidth import checks
from finitewidth.data import Dataset
from finitewidth.exceptions import InputError
from finitewidth.linalg import arithmetic, memory_cap
from finitewidth.networks import Network
from finitewidth.theory import rehearsal
from finitewidth.theory.integrate import Integrated
from finitewidth.theory.local import LocalRenormalisation
from finitewidth.theory.nested import Nested
from finitewidth.theory.neuron import NeuronOptions, single_neuron
from finitewidth.theory.outputs import SeveralOutputs
from finitewidth.theory.own import OwnTheory
from finitewidth.theory.scaled import ScaledKernel
from finitewidth.theory.solution import Solution
from finitewidth.theory.solver import Solver

CLOSURES = ("nested", "product")
METHODS = ("saddle", "integrate", "infinite", "neuron")


def theory_of(
    network: Network,
    temperature: float,
    closure: str | None = None,
    method: str = "saddle",
    neuron: NeuronOptions | None = None,
    solver: str | Solver = "auto",
) -> Any:
    """The theory of a network at a temperature (variance of the Gaussian likelihood).

    closure: of deep networks: "nested" (the default for one output; nearer to sampled networks in most erf cases tried,
        docs/choosing.md) or "product" (one factorisation for all widths; the default for several outputs).
    method: "saddle", "integrate" (over the order parameters instead of the saddle), "infinite" (none of them), "neuron"
        (the single-neuron theory, whose features need not be Gaussian; one hidden layer, docs/neuron.md).
    neuron: particles, rounds, seeds of method "neuron".
    solver: "exact", "krylov" (many points; one scale for all layers), "auto", or a ``Solver``.
    Raises InputError for anything else.
    """
    checks.instance("network", network, Network, "write fw.FullyConnected(widths=100), for example")
    temperature = checks.positive("temperature", temperature)
    checks.choice("closure", "nested" if closure is None else closure, CLOSURES)
    checks.choice("method", method, METHODS)
    solver = Solver.of(solver)
    theory = _theory(network, temperature, closure, method, neuron, solver)
    if solver.kind == "krylov" and not isinstance(theory, ScaledKernel):
        raise InputError(
            f"solver 'krylov' for {_described(theory)}",
            "method 'saddle' or 'infinite' with one hidden layer, or with closure 'product': they only rescale",
            "use one of them, or solver='exact'",
        )
    return theory


def _described(theory: Any) -> str:
    if isinstance(theory, Nested):
        return "the nested closure of a deep network, whose kernel differs from width to width"
    return f"method {theory.method!r} with {type(theory.network).__name__}"


def _theory(
    network: Network,
    temperature: float,
    closure: str | None,
    method: str,
    neuron: NeuronOptions | None,
    solver: Solver,
) -> Any:
    if network.own:
        return _own(network, temperature, closure, method)
    if method == "neuron":
        return single_neuron(network, temperature, neuron)
    if neuron is not None:
        raise InputError(f"options of method 'neuron' with method = {method!r}", "method='neuron'", "leave them out")
    if method == "infinite":
        return ScaledKernel(network, temperature, infinite=True, solver=solver)
    if network.patched:
        if method == "integrate":
            raise InputError(
                "method = 'integrate' for a network on patches",
                "scalar order parameters",
                "use method='saddle'",
            )
        return LocalRenormalisation(network, temperature)  # type: ignore[arg-type]
    exact = replace(solver, kind="exact")  # integrals need the whole spectrum
    if closure == "nested" and not network.kernel_recursion and network.depth > 1:
        raise InputError(
            f"closure = 'nested' with {type(network).__name__}",
            "closure 'product', or FullyConnected",
            "leave closure out",
        )
    same = (
        network.depth == 1
        or not network.kernel_recursion
        or (network.phi.homogeneous and network.offset_precision is None)
    )
    theory: Any
    if closure == "product" or same:
        theory = ScaledKernel(network, temperature, solver=exact if method == "integrate" else solver)
    else:
        theory = Nested(network, temperature, by_default=closure is None)  # type: ignore[arg-type]
    return Integrated(theory) if method == "integrate" else theory


def _own(network: Network, temperature: float, closure: str | None, method: str) -> OwnTheory:
    name = type(network).__name__
    if not network.states_covariance:
        raise InputError(
            f"{name} without a covariance", "what K_R is at given Q", f"write {name}.covariance(Q, x1, x2)"
        )
    if closure is not None:
        raise InputError(f"closure = {checks.shown(closure)} with {name}", "its own covariance", "leave closure out")
    if method not in ("saddle", "infinite"):
        raise InputError(f"method = {method!r} with {name}", "method 'saddle' or 'infinite'", "use one of them")
    return OwnTheory(network, temperature, infinite=method == "infinite")


def for_outputs(theory: Any, n_outputs: int) -> Any:
    """The theory that serves a number of outputs: several of them give scalar order parameters a D x D matrix.

    Raises InputError where there is none: integration over matrices, and the nested closure when asked for by name.
    """
    if n_outputs == 1 or getattr(theory, "infinite", False):
        return theory
    if isinstance(theory, Integrated):
        raise InputError(
            f"method = 'integrate' with {n_outputs} outputs",
            "one output",
            "use method='saddle', whose Q is a matrix",
        )
    if isinstance(theory, Nested) and not theory.by_default:
        raise InputError(
            f"closure = 'nested' with {n_outputs} outputs",
            "the product closure, whose Q is a matrix",
            "leave closure out",
        )
    if isinstance(theory, ScaledKernel) and theory.solver.kind == "krylov":
        raise InputError(f"solver 'krylov' with {n_outputs} outputs", "one output", "use solver='exact'")
    if isinstance(theory, (Nested, ScaledKernel)):
        return SeveralOutputs(theory.network, theory.temperature)
    return theory


def solve(theory: Any, train: Dataset, memory: str | float | None = None) -> Solution:
    """Solve a theory on a training set; ``memory`` (bytes, or "8GB") caps what it may take (default: what is free).

    Raises MemoryCapError above it, and TimeCapError for what would take longer than ``fw.time_limit`` allows.
    Several outputs make the order parameter of a fully connected or pooled network a D x D matrix (product closure).
    """
    if not hasattr(theory, "factorise"):
        raise InputError(f"theory = {checks.shown(theory)}", "a theory", "write fw.theory_of(network, temperature)")
    checks.instance("train", train, Dataset, "write fw.Dataset(x, y)")
    cap, fitting = memory_cap(memory), for_outputs(theory, train.n_outputs)
    with rehearsal.watched([fitting], train, memory=cap), arithmetic(train.n_points):
        solution: Solution = fitting.solve(train, memory=cap)
    return solution
