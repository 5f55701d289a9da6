"""A method of one's own: the hidden layers of a few networks drawn from the prior, their readouts learned exactly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import finitewidth as fw
from finitewidth.inference.methods import PlainSolution, Problem, parts


@dataclass(frozen=True)
class Drawn(PlainSolution):
    """An average over networks with fixed hidden layers."""

    network: fw.Network
    likelihood: fw.Likelihood
    train: fw.Dataset
    hidden: tuple[Any, ...]
    method = "random-features"

    def predict(self, x: Any) -> fw.Prediction:
        at = np.asarray(getattr(x, "x", x))
        each = [self._one(hidden, at) for hidden in self.hidden]
        mean, variance, error = (np.array(part) for part in zip(*each, strict=True))
        return fw.Prediction(mean.mean(0), variance.mean(0) + mean.var(0), float(error.mean()))

    def _one(self, hidden: Any, at: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        scale = self.network.weight_precision[-1] ** -0.5
        phi, test = (scale * np.asarray(self.network.features(hidden, x), float) for x in (self.train.x, at))
        posterior = self.likelihood.posterior(phi @ phi.T, self.train.y)
        return *posterior.predict(test @ phi.T, (test**2).sum(1)), posterior.train_error


@dataclass(frozen=True)
class RandomFeatures(fw.Method):
    """networks: how many are drawn."""

    networks: int = 8
    name = "random-features"

    def serves(self, problem: Problem, n_outputs: int = 1) -> None:
        """Every network that can draw its weights."""

    def solutions(
        self, problems: Sequence[Problem], train: fw.Dataset, test: Any = None, sizes: Any = None, control: Any = None
    ) -> Iterator[Drawn]:
        import jax

        for part in parts(train, sizes):
            for network, likelihood in problems:
                keys = jax.random.split(jax.random.key(0), self.networks)
                yield Drawn(network, likelihood, part, tuple(network.init_hidden(k, part.x.shape[1:]) for k in keys))
