# %% [markdown]
# # Width and activation by evidence, from the training set alone
#
# The log evidence says which prior expected the training data. Does what it prefers also predict better? Needs the
# extra `plot`. Run it as `python examples/02_width_by_evidence.py [FOLDER]`.

# %%
import sys
import tempfile
from pathlib import Path

import finitewidth as fw
from finitewidth.report import first_order_plots, plots

folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
widths = [5, 10, 20, 50, 100, 200, 500]

# %% [markdown]
# A teacher of one hidden layer: 120 noisy points of 10 inputs, so that there is a right temperature (the variance of
# the noise, 0.04) and a right activation (erf).

# %%
train, test = fw.data.one_hidden_layer_teacher(n_train=120, n_test=400, n_inputs=10, width=4, noise=0.2)

# %% [markdown]
# The temperature climbs the gradient of the evidence; widths and activations are tried one by one. The precisions
# stay fixed: for one hidden layer they rescale the kernel as Q does, and climbed as well they would make all widths
# alike.

# %%
start = fw.FullyConnected(widths=(50,), activation="erf")
chosen = fw.select(start, train, widths=widths, activations=["erf", "relu", "linear"], optimise=["temperature"])
print(chosen)

# %% [markdown]
# The best of each activation on the test set, which was not looked at. The evidence rewards a whole prior, the test
# error (bias + variance) a single posterior: they need not agree to the last digit, nor do they here.

# %%
for candidate in chosen.table[::7]:
    network = fw.FullyConnected(widths=(candidate.width,), activation=candidate.activation)
    errors = fw.learning_curve(network, train, test, temperature=candidate.temperature)[0]
    print(f"{candidate.activation:7} N = {candidate.width:3}: evidence {candidate.log_evidence:8.2f} nats,", end=" ")
    print(f"test error {errors.test_error:.3f}, of which bias {errors.bias:.3f}")

# %% [markdown]
# Between widths, evidence by the saddle and by the integral over Q, which is the better one for narrow networks.

# %%
for width in widths:
    both = [
        fw.solve(fw.theory_of(start.with_width(width), chosen.temperature, method=method), train).log_evidence
        for method in ("saddle", "integrate")
    ]
    print(f"N = {width:3}: {both[0]:8.2f} (saddle) {both[1]:8.2f} nats (integral)")

# %%
curve = fw.learning_curve(chosen.network, train, test, widths=widths, temperature=chosen.temperature)
print("figure:", plots.save(plots.learning_curve_figure(curve), folder / "evidence.svg"))

# %% [markdown]
# The same against 1/N: the candidates, and the exact tangents at infinite width in wedges of two standard errors.

# %%
print("figure:", plots.save(first_order_plots.selection_figure(chosen), folder / "wider.svg"))
