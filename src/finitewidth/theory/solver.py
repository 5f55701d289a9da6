"""Which linear algebra serves a theory: an eigendecomposition, or a Krylov space that stores no Gram matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from finitewidth import checks
from finitewidth.checks.exceptions import InputError
from finitewidth.checks.keywords import CheckedKeywords
from finitewidth.data import Dataset
from finitewidth.display import Settings
from finitewidth.kernels.operator import working_bytes
from finitewidth.linalg import available_memory
from finitewidth.networks import Network

if TYPE_CHECKING:
    from distributed import Client

KINDS = ("auto", "exact", "krylov")
EXACT_ARRAYS = 4  # P x P arrays alive in an eigendecomposition
MOST_TEST_BLOCKS = 48  # of the space on top of the first that corrects variances
_QUICK = 6000  # points up to which the eigendecomposition takes no longer than the Krylov space
_DOUBLE = 8000  # points up to which tiles are stored in double precision
_ACCURACY, _FINEST = 0.01, 1e-4  # relative, of a test error: the default, and the least that probes give


@dataclass(frozen=True)
class Solver(CheckedKeywords, Settings):
    """How ``K_R = s K`` is solved (docs/large_p.md).

    kind: "exact" (eigendecomposition, 32 P^2 bytes), "krylov" (fully connected, one output, one scale for all widths),
        or "auto": exact where it fits the memory cap, Krylov otherwise; with an accuracy, Krylov also where it is
        quicker.
    accuracy: relative error of a test error that is accepted; a row that misses it counts as not converged. None: as
        exact as possible, and 0.01 where Krylov is needed.
    probes, test_probes: random vectors for traces, and for the variance at the test points. seed: theirs.
    most_dimensions: of the Krylov space, which grows until the accuracy is reached.
    precision: of the kernel's tiles, "single", "double", or "auto" (double up to 8000 points).
    client: a ``distributed.Client`` on whose workers the kernel is stored and multiplied; None: this process.

    Raises InputError for values that cannot be.
    """

    kind: str = "auto"
    accuracy: float | None = None
    probes: int = 31
    test_probes: int = 16
    most_dimensions: int = 2000
    seed: int = 0
    precision: str = "auto"
    client: Client | None = None

    def __post_init__(self) -> None:
        checks.choice("solver", self.kind, KINDS)
        checks.choice("precision", self.precision, ("auto", "single", "double"))
        if self.accuracy is not None:
            object.__setattr__(self, "accuracy", checks.positive("accuracy", self.accuracy))
            if self.accuracy >= 1.0:
                raise InputError(
                    f"accuracy = {checks.shown(self.accuracy)}", "a relative error below 1", "give 0.01, for example"
                )
        for name, least in (("probes", 4), ("test_probes", 4), ("most_dimensions", 1)):
            value = checks.positive_integer(name, getattr(self, name))
            if value < least:
                raise InputError(f"{name} = {value}", f"at least {least}", "errors are estimated from their scatter")
        checks.seed("seed", self.seed)

    @classmethod
    def of(cls, given: str | Solver) -> Solver:
        """As it is, or by name: "auto", "exact", "krylov", or "auto:0.01", "krylov:0.001" with an accuracy."""
        if isinstance(given, Solver):
            return given
        checks.instance("solver", given, (str, Solver), "write solver='auto', for example")
        kind, colon, accuracy = given.partition(":")
        if not colon:
            return cls(kind)
        try:
            number = float(accuracy)
        except ValueError:
            given = checks.shown(given)
            raise InputError(f"solver {given}", "a number behind the colon", f"write {kind}:0.01") from None
        return cls(kind, number)

    @property
    def target(self) -> float:
        """The accuracy of a Krylov solution."""
        return _ACCURACY if self.accuracy is None else self.accuracy

    def uses_krylov(self, network: Network, train: Dataset, memory: float | None) -> bool:
        """Whether a data set goes the Krylov way; raises InputError where that was requested and cannot be."""
        obstacle = obstacle_to_krylov(network, train)
        if self.kind == "krylov" and obstacle:
            raise InputError(f"solver 'krylov' with {obstacle[0]}", obstacle[1], "use solver='exact'")
        if self.kind != "auto":
            return self.kind == "krylov"
        if obstacle or self.target < _FINEST:
            return False
        limit = available_memory() if memory is None else memory
        if exact_bytes(train) > limit:
            return krylov_bytes(train, self) <= limit
        return self.accuracy is not None and train.n_points > _QUICK

    def dtype(self, count: int) -> type:
        """Of the tiles of a kernel on so many points."""
        single = self.precision == "single" or (self.precision == "auto" and count > _DOUBLE)
        return np.float32 if single else np.float64


def exact_bytes(train: Dataset) -> float:
    """Bytes of the eigendecomposition of the Gram matrix of a data set."""
    return 8.0 * EXACT_ARRAYS * train.n_points**2 + 3 * train.flat.nbytes


def krylov_bytes(train: Dataset, solver: Solver) -> float:
    """Bytes of the space, the space on top of it for test points, the points and a product, without the kernel."""
    count, block = train.n_points, 1 + solver.probes
    columns = min(solver.most_dimensions, count) + solver.test_probes * MOST_TEST_BLOCKS
    return 8.0 * count * (columns + 10 * block) + working_bytes(count, block) + 2 * train.flat.nbytes


def obstacle_to_krylov(network: Network, train: Dataset) -> tuple[str, str] | None:
    """(what is given, what is wanted) where there is no Krylov way."""
    if not network.kernel_recursion:
        return f"a {type(network).__name__} network", "a fully connected one"
    if train.n_outputs > 1:
        return f"{train.n_outputs} outputs", "one output"
    return None


AUTO, EXACT = Solver(), Solver("exact")
