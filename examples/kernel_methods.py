# %% [markdown]
# # Kernels of infinitely wide networks in scikit-learn
#
# An infinitely wide network is a kernel: the NNGP kernel if it is Bayesian, the NTK if it is trained by gradient
# descent. Here both classify handwritten digits with scikit-learn's own kernel methods. Needs no extras.

# %%
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.kernel_ridge import KernelRidge
from sklearn.svm import SVC, SVR

import finitewidth as fw

NetworkKernel = fw.kernels.NetworkKernel

# %% [markdown]
# Digits as flat rows, the form scikit-learn wants, and their labels 0..9.

# %%
train, test = fw.data.digits(n_train=300, n_test=400)
X, X_test = train.flat, test.flat
labels, test_labels = train.y.argmax(1), test.y.argmax(1)

# %% [markdown]
# ## Support vectors
# Any kernel is a callable. The convolutional one needs to know the images behind the rows.

# %%
dense = NetworkKernel(depth=2, activation="relu")
conv = NetworkKernel(
    layers=[
        {"conv": {"patch": [3, 3], "padding": "same"}},
        "relu",
        {"conv": {"patch": [3, 3], "stride": [2, 2], "padding": "same"}},
        "relu",
        "flatten",
        "dense",
    ],
    input_shape=(8, 8, 1),
)
for name, kernel in (("fully connected", dense), ("convolutional", conv)):
    accuracy = SVC(kernel=kernel, C=10.0).fit(X, labels).score(X_test, test_labels)
    print(f"SVC, {name} NNGP: accuracy {accuracy:.3f}")

# %% [markdown]
# Precomputed is the same, and saves computing the kernel twice when several settings are tried on it.

# %%
K, K_test = dense(X), dense(X_test, X)
for C in (1.0, 100.0):
    accuracy = SVC(kernel="precomputed", C=C).fit(K, labels).score(K_test, test_labels)
    print(f"SVC, precomputed, C = {C}: accuracy {accuracy:.3f}")

# %% [markdown]
# ## Ridge regression
# Kernel ridge regression with the NTK is the network trained to the end, in its mean over initialisations.

# %%
tangent = NetworkKernel(depth=2, activation="relu", kind="ntk")
ridge = KernelRidge(kernel=tangent, alpha=1e-3).fit(X, train.y)
print(f"KernelRidge, NTK: accuracy {(ridge.predict(X_test).argmax(1) == test_labels).mean():.3f}")
sign = train.y[:, 0] > 0.0
support = SVR(kernel=tangent).fit(X, sign)
print(f"SVR, NTK, 0 against the rest: {((support.predict(X_test) > 0.5) == (test_labels == 0)).mean():.3f}")

# %% [markdown]
# ## A Gaussian process that fits its prior
# The variances of weights and biases are hyperparameters: the fit maximises the evidence over them.

# %%
zero_one, zero_one_test = fw.data.digits(classes=(0, 1), n_train=100, n_test=150)
start = NetworkKernel(depth=1, activation="erf")
process = GaussianProcessRegressor(kernel=start, alpha=0.05).fit(zero_one.flat, zero_one.y)
before = process.log_marginal_likelihood(start.theta)
print(f"GaussianProcessRegressor: log evidence {before:.2f} -> {process.log_marginal_likelihood_value_:.2f}")
print(
    f"weight precision {process.kernel_.weight_precision:.3g}, offset precision {process.kernel_.offset_precision:.3g}"
)
mean, std = process.predict(zero_one_test.flat, return_std=True)
print(f"test error {((mean - zero_one_test.y) ** 2 + std**2).mean():.4f}")
