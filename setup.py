"""Adds the recipes to the package, as `keras_ssl/recipes`. The rest is in pyproject.toml."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["keras_ssl*"]), "keras_ssl.recipes"],
    package_dir={"keras_ssl.recipes": "recipes"},
)
