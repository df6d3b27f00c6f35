"""How Sphinx builds the site: ``nox -s docs``."""

from __future__ import annotations

import fastmux

project = "fastmux"
author = "The fastmux developers"
version = release = fastmux.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["build"]

# A link to a heading is checked like one to a page.
myst_heading_anchors = 3
myst_enable_extensions = ["deflist"]

# Links to our own names must lead somewhere; those of the standard library are not at hand.
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
