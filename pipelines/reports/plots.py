"""Write the page that `dvc plots show` fills, with Vega's scripts inside it, so that plots need no network.

DVC uses the page after `dvc config plots.html_template plots.html` (a path below .dvc/).
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

PATH = Path(".dvc/plots.html")
VEGA_LITE = "5.21"  # DVC's plot templates are written for version 5
SNIPPET = "window.vegaEmbed = vegaEmbed;"  # the function that the drawings in DVC's page call
# Vega compiles expressions, and DVC fills in drawings as scripts: they may run, but load and send nothing.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data: blob: file: 'self'; base-uri 'none'; form-action 'none'"
)
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="POLICY">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" ORIGIN>
{refresh_tag}
<title>DVC plots</title>
<style>
body { font: 1rem/1.5 system-ui, sans-serif; margin: 1.5rem; display: flex; flex-wrap: wrap; gap: 2rem; }
table { border-spacing: 1rem; }
</style>
<script>(() => {SCRIPT})();</script>
</head>
<body>
{plot_divs}
</body>
</html>
"""


def write_template(path: Path = PATH) -> Path:
    """Write the page to `path` and return the path; skip a page of the same versions, for bundling takes seconds."""
    origin = f'content="vl-convert {importlib.metadata.version("vl-convert-python")}, Vega-Lite {VEGA_LITE}"'
    head = path.read_text(encoding="utf-8")[:700] if path.is_file() else ""
    if origin not in head or POLICY not in head:
        import vl_convert

        script = vl_convert.javascript_bundle(SNIPPET, VEGA_LITE)
        page = PAGE.replace("POLICY", POLICY).replace("ORIGIN", origin).replace("SCRIPT", script)
        path.write_text(page, encoding="utf-8")
    return path
