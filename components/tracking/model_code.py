"""The code that travels with a registered model: this package, renamed by its digest.

Two versions with different code then load in one process, and a folder `components` beside the one who loads does no
harm. It works because imports below `components` are relative, and because names in recipes are looked up in the
package that reads them.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..files import files_digest

PACKAGE = Path(__file__).parents[1]
PREDICTOR = Path(__file__).with_name("predictor.py")
SUFFIXES = (".py", ".html")


@contextmanager
def renamed_package() -> Iterator[tuple[Path, Path]]:
    """Yield (a copy of this package under its own name, the script that serves with it), both importable in the block.

    Afterwards neither the files nor the modules imported from them are left.
    """
    files = [file for file in PACKAGE.rglob("*") if file.is_file() and file.suffix in SUFFIXES]
    name = f"trainyard_{files_digest(PACKAGE, files)[:16]}"
    with tempfile.TemporaryDirectory(prefix="trainyard-code-") as folder:
        copy = Path(folder) / name
        for file in files:
            target = copy / file.relative_to(PACKAGE)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
        script = Path(folder) / PREDICTOR.name
        script.write_text(PREDICTOR.read_text().replace(f"from {PACKAGE.name}.", f"from {name}."))
        sys.path.insert(0, folder)
        try:
            yield copy, script
        finally:
            sys.path.remove(folder)
            for module in [module for module in sys.modules if module.partition(".")[0] == name]:
                del sys.modules[module]
