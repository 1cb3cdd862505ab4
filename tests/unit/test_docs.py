"""What the documentation says of the settings and the public names is what the code says.

``UPDATE_DOCS=1 pytest tests/unit/test_docs.py`` writes it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from chroma_stack.context import SETTINGS
from tests.unit import reference

ROOT = Path(__file__).parents[2]
SETTINGS_PAGE = ROOT / "docs" / "settings.md"
REFERENCE_PAGE = ROOT / "docs" / "reference.md"


def settings_page() -> str:
    rows = [f"| `{setting.key}` | {setting.default} | {setting.meaning} |" for setting in SETTINGS]
    return "\n".join(
        [
            "# Settings",
            "",
            'Context values: `-c key=value` on the command line of `cdk`, or `"key": value` under',
            '`"context"` in `cdk.json`. A wrong value, or a key that looks like one of these but is',
            "none, is refused with a sentence that says what is allowed.",
            "",
            "| key | default | meaning |",
            "| --- | --- | --- |",
            *rows,
            "",
        ]
    )


def test_the_page_of_settings_is_what_the_code_says() -> None:
    if os.environ.get("UPDATE_DOCS"):
        SETTINGS_PAGE.write_text(settings_page())
    assert SETTINGS_PAGE.read_text() == settings_page()


def test_the_reference_is_what_the_code_says() -> None:
    if os.environ.get("UPDATE_DOCS"):
        REFERENCE_PAGE.write_text(reference.page())
    assert REFERENCE_PAGE.read_text() == reference.page()


@pytest.mark.parametrize("name", reference.classes(), ids=lambda it: it.name)
def test_everything_public_is_explained(name: reference.Class) -> None:
    assert name.text
    assert name.members
    for member in name.members:
        assert member.text or member.kind == "constructor", member.name
        assert member.type or member.kind != "property", member.name
        for parameter in member.parameters:
            assert parameter.text, f"{member.name}: {parameter.name}"
            assert parameter.type, f"{member.name}: {parameter.name}"


@pytest.mark.parametrize("name", reference.classes(), ids=lambda it: it.name)
def test_every_parameter_that_may_be_left_out_says_what_it_is_then(name: reference.Class) -> None:
    for member in name.members:
        for parameter in member.parameters:
            says = re.search(r"\bDefault\b.*: ", parameter.text) is not None
            assert says or not parameter.has_default, f"{member.name}: {parameter.name}"


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))])
def test_every_link_to_a_page_and_every_setting_named_exists(page: Path) -> None:
    text = page.read_text()
    for link in re.findall(r"\]\((?!http)([^)#]+)", text):
        assert (page.parent / link).exists(), link
    for key in re.findall(r"-c (\w+)=", text):
        assert key in {setting.key for setting in SETTINGS} | {"key"}, key
