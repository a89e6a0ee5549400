"""The tables that README.md and docs/ show: generated, like every table, between two markers."""

import re

from suites.errors import UserError
from suites.tables.sheet import Sheet

BLOCK = re.compile(r"(<!-- table (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def with_tables(readme: str, sheets: dict[str, Sheet]) -> str:
    """A page with the brief form of `sheets`, by their names SUITE-PROFILE, in its marked blocks."""

    def block(match: re.Match[str]) -> str:
        name = match[2]
        if name not in sheets:
            raise UserError(f"a page shows table {name}, of which there is no record")
        sheet = sheets[name]
        return f"{match[1]}{sheet.body(sheet.brief)}\n{match[3]}"

    return BLOCK.sub(block, readme)
