"""The layer as Hugging Face's `kernels` loads it: python interop/hub_kernel.py FOLDER.

A kernel repository has one folder per build variant, build/VARIANT, with a package and its metadata.json.
It is loaded from any path under a name of its own, beside other versions of itself; so the package here
imports itself relatively, and `peer.namespace` gives each copy its operators. Nothing is compiled before it
runs: a variant is named without versions.
"""

import hashlib
import json
import re
import shutil
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "peer"
BACKENDS = ("cpu", "cuda")
ABSOLUTE = re.compile(r"^(\s*)from peer(?:\.([\w.]+))? import", re.MULTILINE)


def relative(text: str, depth: int) -> str:
    """A source whose imports of `peer` start at its own place, `depth` folders below."""
    dots = "." * (depth + 1)
    return ABSOLUTE.sub(lambda m: f"{m[1]}from {dots}{m[2] or ''} import", text)


def assemble(repository: Path) -> list[Path]:
    """The variants written under `repository`, which must not exist."""
    package = repository / "package"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, package, ignore=ignored)
    for path in package.rglob("*.py"):
        depth = len(path.relative_to(package).parts) - 1
        path.write_text(relative(path.read_text(encoding="utf-8"), depth), encoding="utf-8")
    sources = sorted(package.rglob("*.py"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    variants = []
    for backend in BACKENDS:
        variant = repository / "build" / f"torch-{backend}"
        shutil.copytree(package, variant)
        metadata = {
            "name": "peer",
            "id": f"peer_{backend}_{digest[:12]}",
            "version": 0,
            "license": "Apache-2.0",
            "python-depends": [],
            "backend": {"type": backend},
        }
        (variant / "metadata.json").write_text(json.dumps(metadata, indent=2) + "\n")
        variants.append(variant)
    shutil.rmtree(package)
    return variants


if __name__ == "__main__":
    for written in assemble(Path(sys.argv[1])):
        print(f"wrote {written}")
