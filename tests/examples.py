"""The Python examples of pages, run as a reader would: python -I tests/examples.py PAGE ..."""

import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any


def example(page: Path) -> str:
    """The one example of a page."""
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    return code


def run(page: Path) -> dict[str, Any]:
    """The names that the example leaves behind; what it writes goes to the folder it is run in."""
    scope: dict[str, Any] = {"__name__": page.stem}
    exec(compile(example(page), str(page), "exec"), scope)
    return scope


if __name__ == "__main__":
    pages = [Path(given).resolve() for given in sys.argv[1:]]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for page in pages:
            run(page)
            print(f"the example of {page.name} runs")
