"""What the pages of the documentation take from the code.

``make docs`` writes it; ``test_docs.py`` fails when that was forgotten.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from chroma_stack.context import SECTIONS
from chroma_stack.settings import Setting
from tests.unit import costs, reference

DOCS = Path(__file__).parents[2] / "docs"
HOST = DOCS.parent / "chroma_stack" / "host"


def settings_page(page: str) -> str:
    """The page with a table of context keys for each section, and what only the template has."""
    sections = [
        f"## {section}\n\n" + _table("key", [(it.key, it) for it in settings if it.key], notes=True)
        for section, settings in SECTIONS.items()
    ]
    missing = [(it.parameter, it) for it in _settings() if not it.key]
    sections.append("## Only in the published template\n\n" + _reasons("parameter", missing))
    return _after_the_introduction(page, sections)


def template_page(page: str) -> str:
    """The page with the table of parameters, and what only the CDK has."""
    given = [(it.parameter, it) for it in _settings() if it.parameter]
    missing = [(it.key, it) for it in _settings() if not it.parameter]
    page = _replaced(page, "| parameter | default | meaning |", _table("parameter", given))
    return _replaced(page, "| only with the CDK | why |", _reasons("only with the CDK", missing))


DATABASE = "/api/v2/tenants/{tenant}/databases/{database}"
NEEDS = {
    "open": "no credential",
    "create": "`write`; `read` by [get_or_create](#how-does-get_or_create_collection-work-for-a-reader)",
}
ACCESS_TABLE = re.compile("(?s)(<!-- access table -->\n).*?(<!-- end of access table -->\n)")


def users_page(page: str) -> str:
    """The page with what each request needs, of the proxy's own table."""
    rows: dict[tuple[str, str], list[str]] = {}
    for paragraph in (HOST / "access.map").read_text().split("\n\n")[1:]:
        what, *lines = paragraph.splitlines()
        for line in lines:
            request, needs = line.split()
            request = request.replace(":", " ", 1).replace(DATABASE, "…")
            rows.setdefault((what.removeprefix("# "), needs), []).append(f"`{request}`")
    table = [f"`…` is `{DATABASE}`.", "", "| what | needs | requests |", "| --- | --- | --- |"]
    table += [
        f"| {what} | {NEEDS.get(needs, f'`{needs}`')} | {', '.join(requests)} |"
        for (what, needs), requests in rows.items()
    ]
    text = "\n".join(table)
    page, count = ACCESS_TABLE.subn(lambda it: f"{it[1]}{text}\n{it[2]}", page)
    assert count == 1
    return page


def readme(page: str) -> str:
    """The README with what a server costs, of the price list and the default template."""
    page = _replaced(page, "| what | price | a month |", costs.table("what", costs.with_total()))
    page = _replaced(
        page, "| what else | price | a month |", costs.table("what else", costs.options())
    )
    assert len(costs.SENTENCE.findall(page)) == 1
    return costs.SENTENCE.sub(costs.sentence(), page)


PAGES: Mapping[Path, Callable[[str], str]] = {
    DOCS / "settings.md": settings_page,
    DOCS / "template.md": template_page,
    DOCS / "reference.md": lambda _: reference.page(),
    DOCS / "users.md": users_page,
    DOCS.parent / "README.md": readme,
}


def _settings() -> list[Setting]:
    return [it for settings in SECTIONS.values() for it in settings]


def _table(name: str, rows: Iterable[tuple[str, Setting]], notes: bool = False) -> str:
    lines = [f"| {name} | default | meaning |", "| --- | --- | --- |"]
    for key, it in rows:
        default = f"`{it.default}`" if it.default else it.without
        meaning = f"{it.meaning} {it.note}".rstrip() if notes else it.meaning
        lines.append(f"| `{key}` | {default} | {meaning} |")
    return "\n".join(lines) + "\n"


def _reasons(name: str, rows: Iterable[tuple[str, Setting]]) -> str:
    lines = [f"| {name} | why |", "| --- | --- |"]
    return "\n".join([*lines, *(f"| `{key}` | {it.only} |" for key, it in rows)]) + "\n"


def _after_the_introduction(page: str, sections: list[str]) -> str:
    return "\n".join([page.partition("\n## ")[0].rstrip() + "\n", *sections])


def _replaced(page: str, head: str, table: str) -> str:
    """The page with a table in place of the one that begins with the same line."""
    pattern = re.compile(rf"(?m)^{re.escape(head)}\n(\|.*\n)*")
    assert len(pattern.findall(page)) == 1, head
    return pattern.sub(lambda _: table, page)


if __name__ == "__main__":
    for file, written in PAGES.items():
        file.write_text(written(file.read_text()))
