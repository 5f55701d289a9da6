"""Data: sets that check themselves, where they come from, how their inputs are standardised."""

from finitewidth.data.builtin import digits, mnist
from finitewidth.data.csv_file import csv
from finitewidth.data.dataset import Dataset, split, standardise, standardise_target
from finitewidth.data.encoding import TargetEncoding
from finitewidth.data.images import block_average, image_folder
from finitewidth.data.loaders import load
from finitewidth.data.npz_file import npz
from finitewidth.data.openml_set import openml
from finitewidth.data.scaling import Standardiser, TargetScaling
from finitewidth.data.synthetic import one_hidden_layer_teacher

__all__ = [
    "Dataset",
    "Standardiser",
    "TargetEncoding",
    "TargetScaling",
    "block_average",
    "csv",
    "digits",
    "image_folder",
    "load",
    "mnist",
    "npz",
    "one_hidden_layer_teacher",
    "openml",
    "split",
    "standardise",
    "standardise_target",
]
