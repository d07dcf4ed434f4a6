"""`trainyard plan`: checks params and recipes without importing what they name, and says what would run."""

from __future__ import annotations

from components import recipe
from pipelines.check import check_flagship, check_recipe


def main(recipes: list[str]) -> int:
    for path in recipes:
        content = recipe.load(path)
        (check_flagship if "pretrain" in content else check_recipe)(content, path)
        print(f"{path}: fine ({len(recipe.flatten(content))} values, digest {recipe.digest(content)[:12]})")
    return 0
