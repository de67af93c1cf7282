"""Adapts docstrings for the documentation site, and checks that its API reference is complete."""

import re

import griffe
from mkdocs.exceptions import PluginError


class Docstrings(griffe.Extension):
    """Rewrites what neither griffe's parser nor Markdown would render as meant."""

    def on_object(self, *, obj, **kwargs):
        """Rewrites the docstring of a module, class, function or attribute."""
        if obj.docstring:
            text = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.M)
            text = re.sub(r"^Source: ", "**Source:** ", text, flags=re.M)
            text = re.sub(r"^Call arguments:\n((?: {4}.*\n?)+)", call_arguments, text, flags=re.M)
            obj.docstring.value = text


def call_arguments(section):
    """Returns the arguments of `call` as a list."""
    return "**Call arguments:**\n\n" + re.sub(r"(?m)^ {4}(\w+): ", r"- `\1`: ", section[1])


def on_env(env, config, files):
    """Fails if a public name is on no page, or has no docstring."""
    package = griffe.load("keras_ssl", search_paths=["."], allow_inspection=False)
    rendered = set(config.plugins["mkdocstrings"].handlers.inventory)
    problems = []
    for module in (
        package,
        *(package[name] for name in package.modules if name in package.exports),
    ):
        for name in set(module.exports) - set(module.modules):
            lazy = (each for each in definitions(module) if each.name == name)
            found = module.members.get(name) or next(lazy, None)
            if not (found and found.has_docstring):
                problems.append(f"{module.path}.{name} has no docstring")
            elif rendered.isdisjoint((f"{module.path}.{name}", found.canonical_path)):
                problems.append(f"{module.path}.{name} is on no page of docs/api")
    if problems:
        raise PluginError("\n".join(sorted(problems)))


def definitions(module):
    """Yields every class, function and attribute that a module and the modules below it define."""
    for member in module.members.values():
        if not member.is_alias:
            yield from definitions(member) if member.is_module else [member]
