"""Adapts docstrings for the documentation site, and checks that its API reference is complete."""

import re

import griffe
from mkdocs.exceptions import PluginError


class PublicNames(griffe.Extension):
    """Shows griffe what it does not see by itself."""

    def on_instance(self, *, obj, **kwargs):
        """Rewrites what neither griffe's parser nor Markdown would render as meant."""
        if obj.docstring:
            text = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.M)
            text = re.sub(r"^Source: ", "**Source:** ", text, flags=re.M)
            text = re.sub(r"^Call arguments:\n((?: {4}.*\n?)+)", call_arguments, text, flags=re.M)
            obj.docstring.value = text

    def on_package(self, *, pkg, **kwargs):
        """Finds names that are imported lazily, and functions that have the name of their module."""
        for module in public_packages(pkg):
            for name in module.exports:
                member = module.members.get(name)
                if not member or name in member.members:
                    defined = next(
                        each for each in definitions(member or module) if each.name == name
                    )
                    module.members[name] = griffe.Alias(name, defined, parent=module)


def on_env(env, config, files):
    """Fails if a public name is on no page, or has no docstring."""
    extensions = griffe.load_extensions(PublicNames)
    package = griffe.load(
        "keras_ssl", search_paths=["."], allow_inspection=False, extensions=extensions
    )
    rendered = config.plugins["mkdocstrings"].handlers.inventory
    problems = []
    for module in public_packages(package):
        for name in set(module.exports) - set(module.modules):
            if not module[name].has_docstring:
                problems.append(f"{module.path}.{name} has no docstring")
            elif f"{module.path}.{name}" not in rendered:
                problems.append(f"{module.path}.{name} is on no page of docs/api")
    if problems:
        raise PluginError("\n".join(sorted(problems)))


def call_arguments(section):
    """Returns the arguments of `call` as a list."""
    return "**Call arguments:**\n\n" + re.sub(r"(?m)^ {4}(\w+): ", r"- `\1`: ", section[1])


def public_packages(package):
    """Returns a package and those of its packages that it exports."""
    return [package, *(package[name] for name in package.modules if name in package.exports)]


def definitions(module):
    """Yields every class, function and attribute that a module and the modules below it define."""
    for member in module.members.values():
        if not member.is_alias:
            yield from definitions(member) if member.is_module else [member]
