"""Moments of features that tests of several folders take."""

from __future__ import annotations

import numpy as np


def relu_moments(x, precision):
    """Mean and second moment of relu features, formulas of THEORY.md section 1."""
    C = x @ x.T / (precision * x.shape[1])
    root = np.sqrt(np.diag(C))
    u = np.clip(C / np.outer(root, root), -1.0, 1.0)
    second = np.outer(root, root) / (2 * np.pi) * (u * (np.pi - np.arccos(u)) + np.sqrt(1 - u * u))
    return root / np.sqrt(2 * np.pi), second
