"""The extra `plot`: a figure in a file."""

from __future__ import annotations

import finitewidth as fw
from finitewidth.cli import main
from finitewidth.report import plots

train, test = fw.data.digits(classes=(6, 9), n_train=40, n_test=30)
curve = fw.learning_curve(fw.FullyConnected(widths=(20,)), train, test, widths=[10, 20], temperature=0.05)
assert plots.save(plots.learning_curve_figure(curve), "curve.pdf").read_bytes().startswith(b"%PDF-")
network = ["--network", "cnn", "--patch", "4", "--width", "10,20"]
data = ["--data", "digits", "--classes", "6,9", "--n-train", "40", "--n-test", "30"]
assert main(["predict", *data, *network, "--figure", "features.png"]) == 0
