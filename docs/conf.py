"""How the site is made of these pages; ``python3 dev.py docs`` makes it, strictly.

The pages are plain Markdown that reads well where they lie, too: links are relative and name files.
What a site has to have beside that, such as a place for a link that leaves this folder, is here.
"""

from __future__ import annotations

import re
import shutil
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from docutils import nodes

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import watchdog_lambda  # noqa: E402 - the checkout's

project = "watchdog-lambda"
copyright = "The watchdog-lambda maintainers"  # noqa: A001 - the name is Sphinx's
version = release = watchdog_lambda.__version__
needs_sphinx = "8.2"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinxcontrib.mermaid",
]
exclude_patterns = ["conf.py", "_site"]

# ---- the pages ---------------------------------------------------------------------------------

myst_heading_anchors = 4
myst_enable_extensions = ["attrs_block", "colon_fence"]
myst_fence_as_directive = ["mermaid"]
nitpicky = True

html_theme = "furo"
html_title = "watchdog-lambda"
html_static_path = ["_site"]
html_css_files = ["site.css"]
html_extra_path = ["reference/log-record.schema.json"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}
highlight_language = "none"  # a block without a language is a picture or a log
copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True

# Pages of the site that lie beside this folder.
_OUTSIDE = {
    "README.md": "/index.md",
    "CHANGELOG.md": "/project/changelog.md",
    "CONTRIBUTING.md": "/project/contributing.md",
    "RELEASING.md": "/project/releasing.md",
    "SECURITY.md": "/project/security.md",
}

# ---- the reference -----------------------------------------------------------------------------

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_class_signature = "mixed"
napoleon_numpy_docstring = False
napoleon_use_rtype = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88

# Type variables, and what Powertools' processors are given, which have no page here.
nitpick_ignore_regex = [
    ("py:class", r"(.*\.)?(P|R|Hook|AfterHook|SandboxHook)(\.args|\.kwargs)?"),
    ("py:class", "BatchSqsTypeModel|BatchTypeModels|EventType|logging.Logger"),
]

# Python's own names that signatures and docstrings have, and where its documentation has them. An
# inventory of these alone, so that the build asks nobody.
_PYTHON = {
    "class": {
        "library/functions": ("bool", "float", "int", "object", "type"),
        "library/stdtypes": ("dict", "list", "str", "tuple"),
        "library/typing": ("typing.Any", "typing.Literal", "typing.Never"),
        "library/collections.abc": ("collections.abc.Callable", "collections.abc.Coroutine"),
        "library/types": ("types.TracebackType",),
    },
    "exception": {
        "library/asyncio-exceptions": ("asyncio.CancelledError",),
        "library/exceptions": (
            "BaseException",
            "Exception",
            "KeyboardInterrupt",
            "OSError",
            "TimeoutError",
            "ValueError",
        ),
    },
    "data": {"library/constants": ("None",)},
}


def _write_inventory() -> str:
    entries = "".join(
        f"{name} py:{kind} 1 {page}.html#$ -\n"
        for kind, pages in _PYTHON.items()
        for page, names in pages.items()
        for name in names
    )
    head = "# Sphinx inventory version 2\n# Project: Python\n# Version: 3\n"
    head += "# The remainder of this file is compressed using zlib.\n"
    path = ROOT / "build" / "python.inv"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(head.encode() + zlib.compress(entries.encode()))
    return str(path)


intersphinx_mapping = {"python": ("https://docs.python.org/3", _write_inventory())}


_EXAMPLES = ROOT / "docs" / "examples"
"""Pages that are there during a build only."""


def _write_examples() -> None:
    """Make a page of each example: its README, and its source."""
    _remove_examples()
    _EXAMPLES.mkdir()
    for readme in sorted(ROOT.glob("examples/*/README.md")):
        folder = readme.parent
        there = f"](../../examples/{folder.name}/"
        text = re.sub(r"\]\((?=[\w.-]+\))", there, readme.read_text(encoding="utf-8"))
        sources = "".join(
            f"\n## `{source.name}`\n\n"
            f"```{{literalinclude}} ../../examples/{folder.name}/{source.name}\n```\n"
            for source in sorted(folder.glob("*.py"))
        )
        (_EXAMPLES / f"{folder.name}.md").write_text(text + sources, encoding="utf-8")


def _remove_examples(*_: object) -> None:
    shutil.rmtree(_EXAMPLES, ignore_errors=True)


def setup(app: Sphinx) -> None:
    """Register what is made of the pages' sources and of the docstrings."""
    _write_examples()
    app.connect("build-finished", _remove_examples)
    app.connect("source-read", _lead_inside)
    app.connect("autodoc-process-docstring", _mark_thread)
    app.connect("doctree-read", _hide_sentinels)


def _lead_inside(_app: Sphinx, _page: str, source: list[str]) -> None:
    """Have links to files beside this folder lead to their pages of the site."""

    def page(link: re.Match[str]) -> str:
        return "](" + _OUTSIDE.get(link[1], link[0][2:])

    text = re.sub(r"\]\((?:\.\./)+([A-Z]+\.md)\b", page, source[0])
    source[0] = re.sub(r"\]\((?:\.\./)+examples/(\w+)/?\)", r"](/examples/\1.md)", text)


def _mark_thread(
    _app: Sphinx, _what: str, _name: str, _object: object, _options: object, lines: list[str]
) -> None:
    """Have the thread that a function may be called from stand out."""
    for number, line in enumerate(lines):
        lines[number] = re.sub(r"^Thread:", "**Thread:**", line)


def _hide_sentinels(_app: Sphinx, tree: nodes.document) -> None:
    """Have a default that only says that nothing was given read as such."""
    for default in tree.findall(nodes.inline):
        if "default_value" in default["classes"] and default.astext() == "_MISSING":
            default.replace_self(nodes.inline("", "...", classes=default["classes"]))
