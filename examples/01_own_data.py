# %% [markdown]
# # From a csv file of your own to predicted errors
#
# A table with a header, one column to predict, and the question how wide a Bayesian network on it should be. Needs
# the extra `plot`. Run it as `python examples/01_own_data.py [FOLDER]`; the figure goes to the folder, or to a
# temporary one.

# %%
import csv
import sys
import tempfile
from pathlib import Path

from sklearn.datasets import load_wine

import finitewidth as fw
from finitewidth.report import plots

folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())

# %% [markdown]
# Here the file is made from scikit-learn's wines: 178 of three vineyards, 13 measurements each. Leave this cell out
# and name your own file below.

# %%
raw = load_wine()
with open(folder / "wines.csv", "w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow([*raw.feature_names, "vineyard"])
    writer.writerows([*row, name] for row, name in zip(raw.data, raw.target_names[raw.target], strict=True))

# %% [markdown]
# Text in the target column is classes. Inputs are standardised by the training rows; `standardise="none"` leaves
# them.

# %%
train, test = fw.data.csv(folder / "wines.csv", target="vineyard", n_train=60)
print(train)

# %% [markdown]
# Three classes are three outputs, and the order parameter is a 3 x 3 matrix: how much each output has moved from
# infinite width, and which move together.

# %%
network = fw.FullyConnected(widths=(30,), activation="relu")
solution = fw.solve(fw.theory_of(network, temperature=0.05), train)
print(f"converged: {solution.converged}; Q =\n{solution.order_parameters.reshape(3, 3).round(3)}")
prediction = fw.predict(solution, test.x)
print(prediction.errors(test.y))
print(fw.validity(solution).statement)

# %% [markdown]
# The mean and standard deviation of every output at every test row are there too; here the row that the network is
# least sure of.

# %%
doubtful = prediction.std.mean(axis=1).argmax()
print(f"row {doubtful}: {test.labels[doubtful]}, outputs {prediction.mean[doubtful].round(2)}")
print(f"standard deviations {prediction.std[doubtful].round(2)}")

# %% [markdown]
# A curve over widths costs one factorisation.

# %%
curve = fw.learning_curve(network, train, test, widths=[5, 10, 30, 100, 300, 1000], temperature=0.05)
limit = fw.learning_curve(network, train, test, temperature=0.05, method="infinite")
for row in curve:
    print(f"N = {row.width:4}: test error {row.test_error:.4f}, accuracy {100 * row.accuracy:.1f} %")
print(f"infinite: test error {limit[0].test_error:.4f}")
print("figure:", plots.save(plots.learning_curve_figure(curve, limit), folder / "wines.svg"))
