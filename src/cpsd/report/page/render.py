"""Templates, styles and scripts put together: one file that asks for nothing else.

The scripts are ES modules that import each other. A page without files beside it has no place to
import from, so they are laid one after another in one module; their import lines and the word
``export`` go. Names at their top level are therefore distinct over all scripts.
"""

import base64
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

from cpsd.report.page import traced

PACKAGE = "cpsd.report.page"
STYLES = ("base.css", "layout.css", "tables.css", "figures.css")
SCRIPTS = (
    "dom.js",
    "format.js",
    "chosen.js",
    "tables.js",
    "label_table.js",
    "plot.js",
    "counts.js",
    "label_curves.js",
    "training_plots.js",
    "partition_graph.js",
    "reliability.js",
    "threshold_table.js",
    "main.js",
)
"""In the order of their imports: a script imports earlier ones only."""
_IMPORT = re.compile(r"^import\s[^;]*;\n", re.MULTILINE)
_EXPORT = re.compile(r"^export\s+", re.MULTILINE)


def render(template: str, context: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    """Return a page as HTML.

    Args:
        template: file name of the template.
        context: what the template reads.
        data: what the scripts read, by the ``id`` of their JSON element.
    """
    style, script = source_text("styles", STYLES), module_text(SCRIPTS)
    return (
        _environment()
        .get_template(template)
        .render(
            **context,
            style=Markup(style),
            script=Markup(script),
            style_hash=content_hash(style),
            script_hash=content_hash(script),
            data={name: Markup(inline_json(value)) for name, value in data.items()},
        )
    )


@cache
def _environment() -> jinja2.Environment:
    """Return what templates are compiled by: once a process, for that takes most of a page."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(PACKAGE, "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["readable"] = readable
    environment.filters["slug"] = slug
    environment.filters["below"] = below
    environment.globals.update(
        {name: getattr(traced, name) for name in _TEMPLATE_FUNCTIONS},
    )
    return environment


_TEMPLATE_FUNCTIONS = ("figure", "difference", "ratio", "total", "length", "interval")


def source_text(folder: str, names: Sequence[str]) -> str:
    """Return the files of a folder of this package one after another."""
    root = files(PACKAGE) / folder
    return "\n".join(root.joinpath(name).read_text(encoding="utf-8") for name in names)


def module_text(names: Sequence[str]) -> str:
    """Return scripts as one module, without what ties them to files."""
    return _EXPORT.sub("", _IMPORT.sub("", source_text("scripts", names)))


def content_hash(text: str) -> str:
    """Return what a content security policy calls an inline script or style.

    Example:
        >>> content_hash("")
        'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='
    """
    digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


def inline_json(value: object) -> str:
    r"""Return JSON that can stand inside a script element, whatever its texts say.

    Example:
        >>> inline_json({"label": "</script>\u2028 & 'a'"})
        '{"label":"\\u003c/script\\u003e\\u2028 \\u0026 \'a\'"}'
    """
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def below(places: Sequence[traced.Traced], key: str) -> list[traced.Traced]:
    """Return what lies under ``key`` in each of several places."""
    return [one.at(key) for one in places]


def readable(name: object) -> str:
    r"""Return a file name for people: what is not UTF-8 in it as ``\xff``.

    Example:
        >>> readable("caf\udce9.jpg")
        'caf\\xe9.jpg'
    """
    return os.fsencode(str(name)).decode("utf-8", "backslashreplace")


def slug(name: object) -> str:
    """Return a name as part of an ``id``.

    Example:
        >>> slug("teachers/co-occurrence")
        'teachers-co-occurrence'
    """
    return re.sub(r"[^A-Za-z0-9]+", "-", str(name)).strip("-").lower() or "x"
