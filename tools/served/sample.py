"""The extra `sample`: draws, training, the single neuron, Monte Carlo kernels."""

from __future__ import annotations

import finitewidth as fw

train, test = fw.data.digits(classes=(6, 9), n_train=20, n_test=20)
network = fw.FullyConnected(widths=(5,))
for sampler in ("collapsed", "nuts"):
    draws = fw.sample(network, train, test, 0.1, chains=2, draws=60, warmup=60, seed=0, sampler=sampler)
    errors = draws.errors(test.y)
    assert draws.complete
    assert 0.0 < errors.test_error < 1.5
    assert errors.r_hat < 1.5
    assert draws.to_datatree()["posterior"]
assert fw.train(network, train, test, steps=50, seeds=2).errors(test.y).test_error < 2.0
neuron = fw.theory_of(network, temperature=0.1, method=fw.SingleNeuron(particles=600, rounds=(60, 80)))
assert fw.predict(fw.solve(neuron, train), test.x).errors(test.y).test_error < 1.5
