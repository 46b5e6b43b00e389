"""The documentation site: `make docs` builds it into `docs/_build/html`."""

import re
import sys
from importlib import metadata, util
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import reference_pages

project, author = "Foretell", "the authors of Foretell"
release = metadata.version("foretell")
extensions = [
    "myst_nb",
    "sphinx.ext.apidoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
suppress_warnings = ["ref.python"]  # names within signatures, such as 'planner', are those of several attributes
highlight_language = "none"  # commands, unless a block says otherwise
html_theme, html_title = "furo", "Foretell"
html_show_copyright = html_show_sourcelink = False

# Pages: headings are targets of links, as in a repository's own view.
myst_heading_anchors = 4
myst_enable_extensions = ["dollarmath"]

# Notebooks are stored as text, without what they print and draw; what a build has executed is kept in its cache.
nb_execution_mode, nb_execution_timeout = "cache", 1800
nb_execution_raise_on_error, nb_merge_streams, nb_output_stderr = True, True, "remove"

# The interface: every module of the package, from its docstrings.
apidoc_modules = [
    {
        "path": "../src/foretell",
        "destination": "reference/api",
        "separate_modules": False,
        "include_private": False,
        "module_first": True,
        "exclude_patterns": ["**/__main__.py"],
    }
]
autodoc_default_options = {
    "members": True,
    "member-order": "bysource",
    "show-inheritance": True,
    "ignore-module-all": True,  # each thing is described once, where it is defined
}
_BULLET = ["pybullet", "pybullet_envs_gymnasium", "pybullet_utils"]
autodoc_mock_imports = [] if util.find_spec("pybullet") else _BULLET
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_inherit_docstrings = False
default_role = "code"
napoleon_google_docstring, napoleon_numpy_docstring = True, False

_SOURCE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+src/foretell/([\w/]+)\.py\)")
_ELSEWHERE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+(?:tests|benchmarks)/[^)]*\)")


def setup(app):
    """Write the pages that are made from the code, and read all others as Sphinx needs them."""
    app.connect("builder-inited", lambda app: reference_pages.write(Path(app.srcdir) / "reference"))
    app.connect("source-read", _source_read)
    app.connect("autodoc-process-docstring", _docstring, priority=400)  # before Napoleon takes colons for types


def _source_read(app, page, source):
    """Links to code lead to the pages of its modules; links to files that the site does not have become text."""
    text = _SOURCE.sub(lambda m: f"{{py:mod}}`{_plain(m[1])} <foretell.{m[2].replace('/', '.')}>`", source[0])
    source[0] = _ELSEWHERE.sub(r"\1", text).replace("](../CONTRIBUTING.md", "](contributing.md")


def _plain(text):
    return text.replace("`", "")


def _docstring(app, what, name, thing, options, lines):
    """Docstrings have `code` as Markdown does, and no other markup."""
    if lines[:1] and lines[0].startswith("Alias for field number"):
        lines.clear()
    spans = re.split(r"(`[^`]+`)(?=(\w?))", "\n".join(lines))
    text = ""
    for plain, code, after in zip(spans[::3], [*spans[1::3], ""], [*spans[2::3], ""], strict=True):
        text += re.sub(r"(\*|\||_\b)", r"\\\1", plain) + (f"`{code}`" if code else "") + ("\\ " if after else "")
    lines[:] = text.split("\n")
