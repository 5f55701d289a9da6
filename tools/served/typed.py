"""A user's program for mypy: the installed package brings its types. Each ignored error must be one."""

from __future__ import annotations

from typing import assert_type

import finitewidth as fw
from finitewidth.theory import TheorySolution

train, test = fw.data.digits(classes=(6, 9), n_train=40, n_test=30)
assert_type(train, fw.Dataset)
network = fw.FullyConnected(widths=(20,), activation="erf")
solution = fw.solve(fw.theory_of(network, temperature=0.05), train)
assert_type(solution, TheorySolution)
assert_type(fw.solve(network, train, 0.05, method="integrate"), fw.Solution)
prediction = fw.predict(solution, test.x)
assert_type(prediction, fw.Prediction)
errors = prediction.errors(test.y)
assert_type(errors, fw.Errors)
assert_type(errors.test_error, float)
assert_type(errors.accuracy, float | None)
curve = fw.learning_curve(network, train, test, widths=[10, 20], temperature=[0.05, 0.5])
assert_type(curve, fw.LearningCurve)
assert_type(curve.rows[0].converged, bool)
assert_type(fw.sweeps.run("plan.yaml", "out"), fw.sweeps.Status)
fw.solve(train, network, colour="red")  # type: ignore[call-overload]
fw.predict(solution)  # type: ignore[call-arg]
fw.FullyConected(widths=(20,))  # type: ignore[attr-defined]
errors.test_eror  # type: ignore[attr-defined]  # noqa: B018
