"""The documentation site: `make docs`, into docs/_build. Nothing on it is loaded from elsewhere: it reads offline."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from finitewidth import __version__

gc.disable()  # the trees of all pages live to the end: looking for garbage among them took a quarter of the build

project = "finitewidth"
author = "The finitewidth developers"
copyright = "the finitewidth developers, Apache-2.0"
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "docstrings",
    "formula_source",
    "mathml",
    "messages",
]
exclude_patterns = ["_build"]
# Every reference within the package must resolve; types of other libraries are named without a link.
nitpicky = True
nitpick_ignore_regex = [(r"py:.*", r"(?!finitewidth\.).*")]
nitpick_ignore = [
    ("py:class", f"finitewidth.{name}")
    for name in (
        *("linalg.Spectrum", "sweeps.document.Document", "sweeps.point.Point", "networks.patches.Points"),
        *("theory.solution.Predictor", "sampling.solution.Weights", "sampling.convergence.Diagnosis"),
        "networks.base.ListedWeights",
    )
]

myst_enable_extensions = ["dollarmath", "deflist", "colon_fence"]
myst_heading_anchors = 3
html_math_renderer = "mathml"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_use_type_comments = False
python_use_unqualified_type_names = True
maximum_signature_line_length = 88
add_module_names = False

html_theme = "furo"
html_title = "finitewidth"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
pygments_style = "friendly"
pygments_dark_style = "monokai"
html_theme_options = {"navigation_with_keys": True}
