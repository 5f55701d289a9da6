"""A likelihood of one's own: noise with heavy tails (Student's t), its posterior by Laplace's method."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import special

import finitewidth as fw
from finitewidth.linalg import RegularisedGram, left_over


@dataclass(frozen=True)
class StudentT(fw.Likelihood):
    """``y = f + sqrt(temperature) t`` with t of ``freedom`` degrees."""

    temperature: float = 0.05
    freedom: float = 4.0

    def posterior(self, covariance: np.ndarray, y: np.ndarray) -> Laplace:
        return Laplace(covariance, y, self.temperature, self.freedom)


class Laplace:
    """A Gaussian at the mode of f, as wide as the Fisher information of the noise says."""

    def __init__(self, K: np.ndarray, y: np.ndarray, scale: float, n: float) -> None:
        self.K, self.y, self.scale, self.n = K, y, scale, n
        self.gram = RegularisedGram(K, scale * (n + 3.0) / (n + 1.0))
        self.a, before = np.zeros_like(y), np.ones_like(y)  # K^-1 f, which is d log p(y | f) / d f at the mode
        while np.abs(self.a - before).max() > 1e-12 * np.abs(before).max():  # Fisher scoring
            f, before = K @ self.a, self.a
            slope = (n + 1.0) * (y - f) / (n * scale + (y - f) ** 2)
            self.a = self.gram.solve(f + self.gram.ridge * slope)

    @cached_property
    def energy(self) -> float:
        n, r = self.n, self.y - self.K @ self.a
        norm = special.gammaln(0.5 * n + 0.5) - special.gammaln(0.5 * n) - 0.5 * np.log(n * np.pi * self.scale)
        fit = 0.5 * (n + 1.0) * np.log1p(r**2 / (n * self.scale)).sum() - len(r) * norm
        return float(
            fit + 0.5 * self.a @ self.K @ self.a + 0.5 * (self.gram.log_det - len(r) * np.log(self.gram.ridge))
        )

    def cotangent(self) -> np.ndarray:
        return 0.5 * (self.gram.inverse() - np.outer(self.a, self.a))

    @cached_property
    def train_error(self) -> float:
        left = self.gram.ridge * (1.0 - self.gram.ridge * np.trace(self.gram.inverse()) / len(self.y))
        return float(np.mean((self.y - self.K @ self.a) ** 2) + left)

    def predict(self, cross: np.ndarray, prior: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return cross @ self.a, left_over(prior, (self.gram.whiten(cross.T) ** 2).sum(0))
