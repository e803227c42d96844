"""Sphinx configuration. Everything is made from what is in the tree; nothing is fetched."""

import os
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS / "_ext"))

# Pages that run code inherit it: none may use the network.
os.environ["GEOEMBED_OFFLINE"] = "1"
# Two threads beside another busy process take many times as long, and a cell then times out.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Bundled plugins are shown as they lie here, installed or not.
PLUGINS = [str(path.parent) for path in DOCS.parent.glob("plugins/*/pyproject.toml")]
os.environ["PYTHONPATH"] = os.pathsep.join([*PLUGINS, os.environ.get("PYTHONPATH", "")])

from geoembed import __version__  # noqa: E402

project = "geoembed"
author = "the geoembed maintainers"
project_copyright = author
version = release = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_nb",
    "geoembed_pages",
]
exclude_patterns = [
    "conf.py",
    "_build",
    "_ext",
    "_templates",
    "_generated/*.md",
    "_generated/ipython",
    "figures",
    "systems/remarks.md",
    "**/.*",
]
templates_path = ["_templates"]
# Single backticks in docstrings are names of Python objects.
default_role = "py:obj"

# -- docstrings -----------------------------------------------------------------------------
autosummary_generate = True
autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

# -- pages that run code --------------------------------------------------------------------
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
# No formulas: the default would load a script from elsewhere.
myst_update_mathjax = False
nb_custom_formats = {".py": ["jupytext.reads", {"fmt": "py:percent"}]}
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True

# -- HTML -----------------------------------------------------------------------------------
html_theme = "pydata_sphinx_theme"
html_title = "geoembed"
html_static_path = ["_static"]
html_css_files = ["geoembed.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "navbar_align": "left",
    "header_links_before_dropdown": 7,
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": ["theme-version"],
    "secondary_sidebar_items": ["page-toc"],
}
# Only the reference has a section to navigate in.
html_sidebars = {"*": [], "_generated/**": []}
