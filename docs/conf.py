"""Configure Sphinx for ``nox -s docs``."""

from __future__ import annotations

import fastmux

project = "fastmux"
author = copyright = "The fastmux developers"
version = release = fastmux.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["build"]

# Check links to headings, down to this level.
myst_heading_anchors = 3
myst_enable_extensions = ["deflist"]

# Check references to names of this package only: the index of the standard library is not available offline.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!fastmux).*|.*\._[A-Z]\w*")]

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 90

html_theme = "furo"
html_title = f"fastmux {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = html_show_sourcelink = False
