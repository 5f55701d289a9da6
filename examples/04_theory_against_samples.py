# %% [markdown]
# # Theory beside the sampled network: where it holds, and where it fails
#
# The prediction and the truth on the same data share nothing but Gaussian conditioning. Needs the extras `sample` and
# `plot`. Run it as `python examples/04_theory_against_samples.py [FOLDER]`.

# %%
import sys
import tempfile
from pathlib import Path

import finitewidth as fw
from finitewidth.report import plots

folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())

# %% [markdown]
# Twenty points of a random teacher and a linear network of ten neurons: there the integral over Q is the exact
# posterior, so the two may differ by standard errors only.

# %%
train, test = fw.data.one_hidden_layer_teacher(n_train=20, n_test=50, n_inputs=15, width=50, noise=0.2)
network = fw.FullyConnected(widths=(10,), activation="linear")
(row,) = fw.compare(network, train, test, temperature=0.05, methods=("integrate", fw.Sample(draws=200, warmup=200)))
print(f"linear predicted {row.theory.test_error:.4f}, sampled {row.sample.test_error:.4f}", end=" ")
print(f"+- {row.sample.test_error_se:.4f}: {row.difference.in_se:+.1f} standard errors")
print(f"       R-hat {row.sample.r_hat:.3f}, effective draws {row.sample.ess:.0f}, converged: {row.sample.converged}")
assert abs(row.difference.in_se) < 4

# %% [markdown]
# Digits 6 and 9 with few neurons and little noise: low-dimensional, strongly structured, easily learned. Some neurons
# specialise, their features are far from Gaussian, and the prediction says so of itself.

# %%
train, test = fw.data.digits(classes=(6, 9), n_train=40, n_test=100)
network = fw.FullyConnected(widths=(20,), activation="erf")
compared = fw.compare(network, train, test, temperature=0.02, methods=("saddle", fw.Sample(draws=200, warmup=200)))
for row in compared:
    print(f"digits predicted {row.theory.test_error:.4f}, sampled {row.sample.test_error:.4f}", end=" ")
    print(f"+- {row.sample.test_error_se:.4f}: {row.difference.percent:+.0f} %")
    print(f"       {row.theory.validity.statement}")
assert compared.largest_difference > 10, "the theory should fail here"
print("figure:", plots.save(plots.comparison_figure(compared), folder / "compared.svg"))
