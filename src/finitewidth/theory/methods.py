"""The theories of the action as methods: its saddle, the integral over its order parameters, infinite width."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from finitewidth import checks
from finitewidth.checks.exceptions import InputError
from finitewidth.inference.likelihoods import Gaussian, Likelihood
from finitewidth.inference.methods import Control, Problem, gaussian_temperature
from finitewidth.networks import Network
from finitewidth.theory.general import General, Nested
from finitewidth.theory.integrate import IntegratedNested, IntegratedScale
from finitewidth.theory.local import LocalRenormalisation
from finitewidth.theory.scaled import ScaledKernel
from finitewidth.theory.solution import Theory
from finitewidth.theory.solver import AUTO, EXACT, Solver
from finitewidth.theory.solving import TheoryMethod

CLOSURES = ("nested", "product")


def _put_closure(method: Saddle | Integrate) -> None:
    if method.closure is not None:
        checks.choice("closure", method.closure, CLOSURES)


def _nested(closure: str | None, network: Network) -> bool:
    """Whether Q acts inside the next activation, and that is not the same as in front of the kernel."""
    deep = network.kernel_recursion and network.depth > 1
    return deep and closure != "product" and not (network.phi.homogeneous and network.offset_precision is None)


@dataclass(frozen=True)
class Saddle(TheoryMethod):
    """The saddle of the action: order parameters that renormalise the kernel (docs/theory.md section 2).

    closure: of deep networks: "nested" (nearer to sampled networks in most erf cases tried, docs/methods.md) or
        "product" (one factorisation for all widths); None: nested for one output, product for several.
    solver: "auto", "exact", "krylov" (many points; one scale for all layers), or a ``Solver``.

    Raises InputError for other values, and, given a network, for a closure or solver that does not apply to it.
    """

    closure: str | None = None
    solver: str | Solver = AUTO
    name = "saddle"

    def __post_init__(self) -> None:
        _put_closure(self)
        object.__setattr__(self, "solver", Solver.of(self.solver))

    def theory(self, problem: Problem, control: Control | None = None) -> Theory[Any]:
        """The theory that the network calls for, see ``TheoryMethod``."""
        return _served(self._theory(*problem), Solver.of(self.solver))

    def _theory(self, network: Network, likelihood: Likelihood) -> Theory[Any]:
        _refuse_closure(self.closure, network)
        if network.own:
            return General(stated(network), likelihood)
        if not isinstance(likelihood, Gaussian):
            if network.patched or (self.closure == "nested" and _nested(self.closure, network)):
                raise InputError(
                    f"the likelihood {likelihood!r} with order parameters of patches, or with closure 'nested'",
                    "a Gaussian likelihood there; others with one number a layer, closure 'product'",
                    "use pool='average', closure='product' or a Gaussian likelihood",
                )
            return General(network, likelihood)
        if network.patched:
            return LocalRenormalisation(network, likelihood.temperature)  # type: ignore[arg-type]
        if _nested(self.closure, network):
            return Nested(network, likelihood, by_default=self.closure is None)
        return ScaledKernel(network, likelihood.temperature, solver=Solver.of(self.solver))


@dataclass(frozen=True)
class Integrate(TheoryMethod):
    """The integral over the order parameters instead of their saddle; exact for linear networks (docs/theory.md 3).

    closure: see ``Saddle``. Serves one output and scalar order parameters; InputError otherwise.
    """

    closure: str | None = None
    name = "integrate"

    def __post_init__(self) -> None:
        _put_closure(self)

    def theory(self, problem: Problem, control: Control | None = None) -> Theory[Any]:
        """See ``TheoryMethod``."""
        network, temperature = problem.network, gaussian_temperature(problem, self)
        if network.own or network.patched:
            raise InputError(
                f"method = 'integrate' for {type(network).__name__}",
                "scalar order parameters of one of the package's networks",
                "use method='saddle'",
            )
        _refuse_closure(self.closure, network)
        if _nested(self.closure, network):
            return IntegratedNested(network, Gaussian(temperature))
        return IntegratedScale(network, temperature, solver=EXACT)


@dataclass(frozen=True)
class Infinite(TheoryMethod):
    """Infinite width: a Gaussian process with the network's own kernel, no order parameters (Lee et al. 2018).

    solver: see ``Saddle``.
    """

    solver: str | Solver = AUTO
    name = "infinite"

    def __post_init__(self) -> None:
        object.__setattr__(self, "solver", Solver.of(self.solver))

    def theory(self, problem: Problem, control: Control | None = None) -> Theory[Any]:
        """See ``TheoryMethod``."""
        (network, likelihood), solver = problem, Solver.of(self.solver)
        if network.own or not isinstance(likelihood, Gaussian):
            return _served(General(stated(network), likelihood, infinite=True), solver)
        return _served(ScaledKernel(network, likelihood.temperature, infinite=True, solver=solver), solver)


def _served(theory: Theory[Any], solver: Solver) -> Theory[Any]:
    """The theory, unless a Krylov space was chosen for a kernel that does more than being rescaled: InputError then."""
    if solver.kind == "krylov" and not (isinstance(theory, ScaledKernel) and theory.network.kernel_recursion):
        nested = "the nested closure of a deep network, whose kernel differs from width to width"
        raise InputError(
            f"solver 'krylov' for {nested if isinstance(theory, Nested) else type(theory.network).__name__}",
            "one hidden layer, or closure 'product', fully connected and Gaussian: a kernel that is only rescaled",
            "use one of them, or solver='exact'",
        )
    return theory


def stated(network: Network) -> Network:
    """The network, if its covariance is known; InputError otherwise."""
    if network.own and not network.states_covariance:
        name = type(network).__name__
        raise InputError(
            f"{name} without a covariance", "what K_R is at given Q", f"write {name}.covariance(Q, x1, x2)"
        )
    return network


def _refuse_closure(closure: str | None, network: Network) -> None:
    """Closures belong to networks whose kernel follows layer by layer; product is what all others have."""
    layered = not network.own and not network.patched and network.depth > 1
    if closure is not None and not network.kernel_recursion and not (closure == "product" and layered):
        raise InputError(
            f"closure = {closure!r} with {type(network).__name__}",
            "one hidden layer, or a covariance of its own: no closure",
            "leave closure out",
        )


def with_exact(method: TheoryMethod) -> TheoryMethod:
    """The same method without a Krylov space, where it has that choice."""
    return replace(method, solver=EXACT) if isinstance(method, (Saddle, Infinite)) else method
