"""Configuration of Sphinx: ``sphinx-build -W --keep-going -b html docs docs/_build``."""

import sys
from pathlib import Path

import secateur

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "Secateur"
author = "the authors of Secateur"
release = version = secateur.__version__
language = "en"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "cli_reference"]
exclude_patterns = ["_build", "_ext", "figures"]

html_theme = "furo"
html_title = "Secateur"
html_static_path = ["_static"]
html_css_files = ["secateur.css"]
html_copy_source = False
html_show_copyright = False

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

add_module_names = False
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_class_signature = "mixed"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
