"""Effective samples a second, sampler against sampler, and one large case: ``make bounds``.

Six cases of different kinds, fixed before any of them was run, from ../shared/data (skipped where that is missing).
Seconds are processor seconds, so that a busy machine changes little.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cases import CASES, Case, convolutional, fully, load

import finitewidth as fw
from finitewidth.sampling.engine import Engine, Progress

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="needs ../shared/data")
SIX = (
    CASES[1],
    Case("digits", fully(20, activation="tanh"), classes=(6, 9), temperature=0.02, n_train=200, n_test=150),
    Case("mnist-14", fully(100, 100, activation="relu"), classes=(3, 8), n_train=300),
    Case("mnist-14", fully(50, 50, 50), classes=(4, 9), n_train=150),
    Case("mnist-28", convolutional(20, 7), classes=(3, 8)),
    Case("mnist-14", fully(100), classes=(3, 8), n_train=1000),
)
LARGE = Case("mnist-28", fully(200, 200), n_train=500, classes=(3, 8))


@dataclass(frozen=True)
class Speed:
    """Of one sampler: effective samples of the test error in a processor second, warmup apart and in all."""

    test_error: str
    ess: float
    r_hat: float
    draws: int
    gradients: int
    seconds: float
    drawing: float

    @property
    def whole(self) -> float:
        return self.ess / self.seconds

    @property
    def of_draws(self) -> float:
        return self.ess / self.drawing

    def __str__(self) -> str:
        return (
            f"test error {self.test_error}, R-hat {self.r_hat:.3f}, {self.ess:.0f} effective of {self.draws} draws, "
            f"{1000 * self.ess / self.gradients:.3g} in 1000 gradients; a second: {self.whole:.3g} with warmup and "
            f"compilation, {self.of_draws:.3g} of drawing"
        )


def speed(case: Case, seed: int = 0, **options: object) -> Speed:
    """One run; drawing begins where the last stage does."""
    train, test = load(case, FOLDER)
    began: list[float] = []

    def watched(engine: Engine, progress: Progress) -> Iterator[Progress]:
        last = len(engine.stages) - 1
        if progress.stage == last:  # the warmup of NUTS is part of its first state
            began.append(time.process_time())
        for state in run(engine, progress):
            if state.stage == last and not began:
                began.append(time.process_time())
            yield state

    run = Engine.run
    started = time.process_time()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Engine, "run", watched)
        found = fw.sample(case.network, train, test, case.temperature, seed=seed, **options)
    ended = time.process_time()
    errors = found.errors(test.y)
    told = f"{errors.test_error:.4f} ± {errors.test_error_se:.4f}"
    count = found.n_chains * found.n_draws
    return Speed(told, errors.ess, errors.r_hat, count, int(found.steps.sum()), ended - started, ended - began[0])


@pytest.mark.parametrize("case", SIX, ids=str)
def test_collapsed_against_langevin_and_nuts(case: Case) -> None:
    """Each as long as it is given; all weights are sampled by the other two. The bounds are those of the project."""
    print(f"\n{case}", flush=True)
    ours = speed(case, seconds=60.0)
    print(f"collapsed: {ours}", flush=True)
    others = {
        "nuts": speed(case, seconds=240.0, warmup=150, sampler="nuts"),
        "langevin": speed(case, seconds=120.0, warmup=100, sampler="langevin-unadjusted", trajectory=100),
    }
    ratios = {name: (ours.whole / other.whole, ours.of_draws / other.of_draws) for name, other in others.items()}
    for name, (whole, drawing) in ratios.items():
        print(f"{name}: {others[name]}\ncollapsed / {name}: {whole:.1f} in all, {drawing:.1f} drawing", flush=True)
    assert ratios["nuts"][0] >= 10.0
    assert ratios["langevin"][0] >= 50.0


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
