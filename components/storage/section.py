"""The section of a data set in a recipe: its `use` and arguments, and `store`, the place of its prepared parts."""

from __future__ import annotations

from typing import Any

from ..recipes import recipe
from .dataset import Dataset
from .object_store import check_address

STORE = "store"


def build_dataset(section: dict[str, Any]) -> Dataset:
    """Return the data set of a section; no files are read."""
    dataset: Dataset = recipe.build(without_store(section), Dataset)
    return dataset


def read_constructed(dataset: Any, name: str) -> Any:
    """Return an attribute that the constructor or the class sets; None for a property, which may read the data."""
    value = vars(dataset).get(name, vars(type(dataset)).get(name))
    return None if hasattr(value, "__get__") else value


def without_store(section: dict[str, Any]) -> dict[str, Any]:
    """Return a section without `store`, which is not an argument of the data set."""
    return {key: value for key, value in section.items() if key != STORE}


def store_address(section: dict[str, Any]) -> str | None:
    """Return the address of the object store for a section's parts; None: they stay in the folder of the manifest."""
    address = section.get(STORE)
    return None if address is None else check_address(address)
