# %% [markdown]
# # What a convolutional network learns: local kernel renormalisation
#
# A fully connected layer can only rescale its kernel. A convolutional one has an order parameter for every pair of
# patches: which places it listens to, and which it takes together (Aiudi et al. 2025). Needs the extra `plot`. Run
# it as `python examples/03_local_renormalisation.py [FOLDER]`.

# %%
import sys
import tempfile
from pathlib import Path

import numpy as np

import finitewidth as fw
from finitewidth.report import feature_plots, plots

folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())

# %%
train, test = fw.data.digits(classes=(3, 8), n_train=100, n_test=200)
local = {"patch": 2, "activation": "erf"}
networks = {
    "fully connected": fw.FullyConnected(widths=(20,), activation="erf"),
    "locally connected": fw.LocallyConnected(channels=20, **local),
    "convolutional": fw.Convolutional(channels=20, **local),
}
solutions = {name: fw.solve(fw.theory_of(network, 0.05), train) for name, network in networks.items()}
for name, solution in solutions.items():
    errors = fw.predict(solution, test.x).errors(test.y)
    print(f"{name:18} {solution.order_parameters.size:4} order parameters, test error {errors.test_error:.4f}")

# %% [markdown]
# The scale, the scales of 16 patches, and the 16 x 16 matrix: how far each is from infinite width, in nats, and what
# share of the renormalised kernel lies between different patches.

# %%
for name, solution in solutions.items():
    print(f"{name:18} N I(Q) = {fw.features.information(solution):.1f} nats")
print(f"between patches: {100 * fw.features.between_patches(solutions['convolutional']):.1f} %")

# %% [markdown]
# On the image: the diagonal is where the network looks, the leading eigenvectors are the patches that it takes
# together.

# %%
qmap = solutions["convolutional"].q_map()
values, vectors = qmap.eigenvectors(2)
print(f"Q on the diagonal, patch by patch:\n{qmap.diagonal.round(2)}")
print(f"leading eigenvalues {values.round(2)}; first eigenvector:\n{vectors[0].round(2)}")
assert np.allclose(qmap.square, qmap.square.T)

figure, (left, right) = plots.new_figure(2, width=7.0, height=3.0)
with plots.style():
    feature_plots.q_matrix(qmap, ax=left)
    feature_plots.q_on_image(qmap, ax=right)
print("figure:", plots.save(figure, folder / "patches.svg"))
