"""The Python examples of pages, run as a reader would: python -I tests/examples.py PAGE ..."""

import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def examples(page: Path) -> list[str]:
    """The examples of a page in their order, each on the lines that it has in the page."""
    text = page.read_text(encoding="utf-8")
    return ["\n" * text.count("\n", 0, m.start(1)) + m[1] for m in BLOCK.finditer(text)]


def run(page: Path) -> dict[str, Any]:
    """The names that a page's examples leave behind, one after another in one scope; what they write goes
    to the folder they are run in.
    """
    scope: dict[str, Any] = {"__name__": page.stem}
    for code in examples(page):
        exec(compile(code, str(page), "exec"), scope)
    return scope


if __name__ == "__main__":
    pages = [Path(given).resolve() for given in sys.argv[1:]]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for page in pages:
            run(page)
            print(f"{len(examples(page))} of {page.name} run")
