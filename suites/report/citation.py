"""BibTeX of this suite, from CITATION.cff, and of the paper."""

import re
from pathlib import Path

CITATION = Path(__file__).resolve().parents[2] / "CITATION.cff"
PAPER = """\
@article{he2024mixture,
  title = {Mixture of A Million Experts},
  author = {He, Xu Owen},
  year = {2024},
  journal = {arXiv preprint arXiv:2407.04153}
}
"""


def bibtex(commit: str | None) -> str:
    """`commit` is the one that the report was made of."""
    text = CITATION.read_text(encoding="utf-8")
    fields = dict(re.findall(r'^(title|version|date-released): "?(.*?)"?$', text, re.MULTILINE))
    authors = re.findall(r"^  - name: (.*)$", text, re.MULTILINE)
    at = f", commit {commit[:12]}" if commit else ""
    return (
        "@software{peer_suite,\n"
        f"  title = {{{fields['title']}}},\n"
        f"  author = {{{' and '.join(f'{{{name}}}' for name in authors)}}},\n"
        f"  year = {{{fields['date-released'][:4]}}},\n"
        f"  version = {{{fields['version']}{at}}}\n"
        f"}}\n\n{PAPER}"
    )
