"""The tables that README.md and docs/ show, and sentences of them: generated, like every table, between
two markers, `<!-- table NAME -->` or `<!-- says NAME -->` and `<!-- end -->`.
"""

import re

from suites.errors import UserError
from suites.tables.sheet import Sheet

BLOCK = re.compile(r"(<!-- (table|says) (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def with_tables(readme: str, sheets: dict[str, Sheet]) -> str:
    """A page with the brief form of `sheets`, or what they say, by their names SUITE-PROFILE."""

    def block(match: re.Match[str]) -> str:
        marker, kind, name, end = match.groups()
        if name not in sheets:
            raise UserError(f"a page shows table {name}, of which there is no record")
        sheet = sheets[name]
        return f"{marker}{sheet.body(sheet.brief) if kind == 'table' else sheet.says}\n{end}"

    return BLOCK.sub(block, readme)
