"""How the documentation becomes a site: `make docs`."""

import sys
from importlib.metadata import version as version_of
from typing import Any

import pytorch_lightning as pl

project, author, copyright = "mptt", "the mptt authors", "the mptt authors, MIT licence"
version = release = version_of("mptt")

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "myst_nb", "sphinx_copybutton"]
exclude_patterns = ["pictures.py"]
html_theme, html_title = "furo", f"mptt {version}"
html_static_path, html_css_files = ["_static"], ["wide.css"]

# Links to headings, as the repository's host makes their anchors.
myst_heading_anchors = 3

# Notebooks are stored without outputs; each build runs them, and fails where one fails.
nb_execution_mode = "force"
nb_execution_timeout = 120
nb_execution_raise_on_error = True
nb_execution_in_temp = True
# Lightning says there which devices there are, and how many parameters.
nb_output_stderr = "remove"

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_type_aliases = {"npt.ArrayLike": "ArrayLike"}
autodoc_typehints_description_target = "documented"
autodoc_default_options = {"members": True}
napoleon_numpy_docstring = False
napoleon_use_ivar = True

# What stands in backticks in a docstring is code, and a link where a name of the API is meant.
default_role = "py:obj"
# Types must be found, but not those of other packages: that takes their inventories, and a build needs no network.
nitpick_ignore_regex = [(r"py:obj", r"(?s).*"), (r"py:.*", r"(?!mptt\b).*"), (r"py:.*", r"mptt\.callbacks\.memory\..*")]

LIGHTNING = (pl.Callback, pl.LightningDataModule, pl.LightningModule)


def without_hooks(app: object, what: str, name: str, obj: Any, skip: bool, options: object) -> bool | None:
    """Leave out the methods that Lightning calls and a user does not."""
    method = getattr(obj, "fget", obj)
    module, owner = getattr(method, "__module__", None), getattr(method, "__qualname__", "").split(".")[0]
    found = getattr(sys.modules.get(str(module)), owner, None)
    hooks = [base for base in LIGHTNING if isinstance(found, type) and issubclass(found, base)]
    return True if any(hasattr(base, name.rpartition(".")[2]) for base in hooks) else None


def setup(app: Any) -> None:
    """Tell Sphinx of it."""
    app.connect("autodoc-skip-member", without_hooks)
