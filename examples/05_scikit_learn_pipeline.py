# %% [markdown]
# # Finite-width networks in scikit-learn: pipeline, grid search, calibration
#
# The estimators obey scikit-learn's rules, so everything built on these works. Needs the extra `plot`. Run it as
# `python examples/05_scikit_learn_pipeline.py [FOLDER]`.

# %%
import sys
import tempfile
from pathlib import Path

import numpy as np
from sklearn.calibration import calibration_curve
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import finitewidth as fw
from finitewidth.report import plots

folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())

# %% [markdown]
# ## A classifier
# Nothing is scaled behind your back, so a scaler goes in front.

# %%
x, y = load_breast_cancer(return_X_y=True)
x_train, x_test, y_train, y_test = train_test_split(x, y, train_size=150, stratify=y, random_state=0)
pipeline = make_pipeline(StandardScaler(), fw.FiniteWidthClassifier())
grid = {
    "finitewidthclassifier__widths": [10, 100, 1000],
    "finitewidthclassifier__temperature": [0.05, 0.2],
    "finitewidthclassifier__activation": ["erf", "relu"],
}
search = GridSearchCV(pipeline, grid, scoring="neg_log_loss", cv=5).fit(x_train, y_train)
best = {name.rpartition("__")[2]: value for name, value in search.best_params_.items()}
print(f"cross-validation chose {best}")
print(f"accuracy on {len(y_test)} others: {search.best_estimator_.score(x_test, y_test):.3f}")
print(f"its log evidence: {search.best_estimator_[-1].log_evidence_:.2f} nats")

# %% [markdown]
# Are its probabilities right? Of the cases that it gives a probability, that share should be so.

# %%
probability = search.predict_proba(x_test)[:, 1]
share, said = calibration_curve(y_test, probability, n_bins=5, strategy="quantile")
print("said   ", said.round(2), "\nhappens", share.round(2))
figure, (axes,) = plots.new_figure(1, width=3.4, height=3.0)
axes.plot([0, 1], [0, 1], "--", color="0.6")
axes.plot(said, share, "o-")
axes.set(xlabel="probability given", ylabel="share of cases")
print("figure:", plots.save(figure, folder / "calibration.svg"))

# %% [markdown]
# ## A regressor
# Targets are standardised inside, and the temperature is the noise of standardised ones. The standard deviation is that
# of f; a new observation has the noise on top.

# %%
x, y = load_diabetes(return_X_y=True)
model = make_pipeline(StandardScaler(), fw.FiniteWidthRegressor(widths=(50,), temperature=0.5))
scores = cross_val_score(model, x, y, cv=5)
print(f"diabetes: R^2 {scores.mean():.3f} +- {scores.std(ddof=1) / np.sqrt(len(scores)):.3f}")

mean, std = model.fit(x[:300], y[:300]).predict(x[300:], return_std=True)
noise = 0.5 * model[-1].target_scale_ ** 2
inside = np.abs(y[300:] - mean) < 1.96 * np.sqrt(std**2 + noise)
print(f"95 % intervals hold {100 * inside.mean():.0f} % of {len(inside)} others")

# %% [markdown]
# ## Beside a Gaussian process
# At infinite width it is one, with the network's kernel.

# %%
scaled = StandardScaler().fit_transform(x)
kernel = fw.kernels.NetworkKernel(depth=1, activation="erf", offset_precision=None)
process = GaussianProcessRegressor(kernel, alpha=0.5, optimizer=None, normalize_y=True).fit(scaled[:300], y[:300])
infinite = fw.FiniteWidthRegressor(temperature=0.5, method="infinite").fit(scaled[:300], y[:300])
difference = np.abs(process.predict(scaled[300:]) - infinite.predict(scaled[300:])).max()
print(f"largest difference from scikit-learn's process: {difference:.1e}")
assert difference < 1e-8
