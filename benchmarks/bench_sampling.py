"""Effective samples a second, sampler against sampler, and one large case: ``make bench``.

The reference case: CIFAR-10 airplanes and automobiles averaged to 16 x 16, P = 100, N = 40, erf, T = 0.05, from
../shared/data (skipped where that is missing). Seconds are processor seconds, so that a busy machine changes little.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from cases import CASES, Case, fully, load

import finitewidth as fw

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="needs ../shared/data")
REFERENCE = CASES[1]
LARGE = Case("mnist-28", fully(200, 200), n_train=500, classes=(3, 8))


@dataclass(frozen=True)
class Speed:
    """Of one sampler: effective samples of the test error in a processor second, warmup apart and in all."""

    test_error: str
    ess: float
    r_hat: float
    seconds: float
    drawing: float
    draws: int
    share: float

    @property
    def whole(self) -> float:
        return self.ess / self.seconds

    @property
    def of_draws(self) -> float:
        return self.share * self.ess / self.drawing

    def __str__(self) -> str:
        return (
            f"test error {self.test_error}, R-hat {self.r_hat:.3f}, {self.ess:.0f} effective of {self.draws} draws; "
            f"a second: {self.whole:.3g} with warmup and compilation, {self.of_draws:.3g} of drawing"
        )


def speed(case: Case, draws: int, **options: object) -> Speed:
    """A short run, which compiles, and a long one: what the long one adds is the time of drawing."""
    train, test = load(case, FOLDER)

    def run(draws: int) -> tuple[fw.Draws, float]:
        started = time.process_time()
        found = fw.sample(case.network, train, test, case.temperature, draws=draws, seed=0, **options)
        return found, time.process_time() - started

    compiling = run(10)[1]
    short = run(10)[1]
    found, long = run(draws)
    errors = found.errors(test.y)
    told = f"{errors.test_error:.4f} ± {errors.test_error_se:.4f}"
    seconds = long + max(0.0, compiling - short)
    share = (draws - 10) / draws
    return Speed(told, errors.ess, errors.r_hat, seconds, long - short, 4 * draws, share)


def test_collapsed_against_langevin_and_nuts() -> None:
    ours = speed(REFERENCE, 1500)
    nuts = speed(REFERENCE, 250, sampler="nuts")
    langevin = speed(REFERENCE, 500, sampler="langevin", trajectory=200)
    print(f"\ncollapsed: {ours}\nnuts: {nuts}\nlangevin: {langevin}")
    for name, other in (("nuts", nuts), ("langevin", langevin)):
        print(
            f"collapsed / {name}: {ours.whole / other.whole:.1f} in all, {ours.of_draws / other.of_draws:.1f} drawing"
        )
    assert ours.whole / nuts.whole >= 10
    assert ours.of_draws / langevin.of_draws >= 100


def test_500_points_784_inputs_two_layers_of_200() -> None:
    train, test = load(LARGE, FOLDER)
    wall, processor = time.perf_counter(), time.process_time()
    errors = fw.sample(LARGE.network, train, test, LARGE.temperature, draws=150, warmup=150, seed=0).errors(test.y)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    print(
        f"\nP = 500, N0 = 784, N = 200, 200: test error {errors.test_error:.4f} ± {errors.test_error_se:.4f}, "
        f"R-hat {errors.r_hat:.3f}, {errors.ess:.0f} effective; {wall:.0f} s, {processor:.0f} processor seconds"
    )
    assert errors.test_error_se < 0.01 * errors.test_error
    assert processor < 2 * 600
