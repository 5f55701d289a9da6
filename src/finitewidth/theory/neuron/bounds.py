"""When a run of the single-neuron theory has converged, and which response it needs."""

from __future__ import annotations

RESPONSES = ("auto", "quadratic", "nonlinear")
RESIDUAL_BOUND, KERNEL_BOUND = 0.02, 0.03  # above either, the result has not converged
STRONG = 2.5  # lambda_1 E[v^2] above which one neuron's output is of the order of the targets
LOST = 0.3  # residual above which the quadratic response has no solution that the particles find
