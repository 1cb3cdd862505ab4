"""One row per setting of a deployment.

The rows stand in the files of their capabilities. The command line's context, the published
template and the tables of the documentation read them, so that a default, a pattern and a
sentence stand once.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aws_cdk as cdk

from chroma_stack.errors import SettingError

EMAIL = r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+"
EMAIL_ALLOWED = "an address such as operations@example.com"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """``-c key=value`` for the CDK, a parameter of the published template, or both."""

    key: str = ""
    """The context key; empty when only the published template has the setting."""

    parameter: str = ""
    """The parameter of the published template; empty when only the CDK has the setting."""

    only: str = ""
    """Why the setting exists in one of the two ways only."""

    option: str
    """The option of :class:`chroma_stack.ChromaStack` that it becomes."""

    field: str = ""
    """What it is called in that option, when several settings make one option."""

    meaning: str
    """A sentence for the documentation."""

    note: str = ""
    """A further sentence, about the context key only."""

    default: str = ""
    """The value when it is left out; empty for none."""

    without: str = ""
    """What happens without a value, when there is no default."""

    pattern: str = ""
    """A regular expression for the whole value, by the rules that Python and CloudFormation
    share."""

    values: tuple[str, ...] = ()
    """All values that the published template takes; empty when the pattern says it."""

    allowed: str = ""
    """What the value may be, in words."""

    parse: Callable[[str], Any] | None = None
    """From text to the typed value; raises :class:`SettingError`. Default: the text itself,
    which has to match the pattern."""

    several: bool = False
    """Whether the context key takes several values, separated by commas."""

    multiline: bool = False
    """Whether the value may have more than one line."""

    largest: int = 0
    """The largest value of a number, which is at least 1; zero for text."""

    longest: int = 0
    """The most characters that the published template takes; zero for any number. Needed where
    the value gets into user data, whose size has a limit."""

    hidden: bool = False
    """Whether the value is kept out of messages and of CloudFormation's console."""

    def value(self, text: str) -> Any:
        """The typed value.

        :param text: what the user gave.
        :raises SettingError: when it is refused; under the context key.
        """
        if not self.multiline and not text.isprintable():
            raise SettingError(self.key, text, "one line of printable text")
        parts = [part.strip() for part in text.split(",")] if self.several else [text]
        try:
            values = [self._parsed(part) for part in parts]
        except SettingError as error:
            raise error.named(self.key) from None
        # In the order given, each once.
        return list(dict.fromkeys(values)) if self.several else values[0]

    def _parsed(self, text: str) -> Any:
        if self.parse is None:
            return matching(self.key, text, self.pattern, self.allowed)
        return self.parse(text)


def matching(name: str, value: str, pattern: str, allowed: str) -> str:
    """The value as given, which matches the pattern or is a token: a reference whose value
    only the deployment knows.

    :param name: the setting.
    :param value: what it was given.
    :param pattern: a regular expression for the whole value.
    :param allowed: what it may be, in words.
    :raises SettingError: when it does not match.
    """
    if not cdk.Token.is_unresolved(value) and not re.fullmatch(pattern, value, re.ASCII):
        raise SettingError(name, value, allowed)
    return value


def resource_id(prefix: str) -> str:
    """The pattern of an id of EC2, such as ``vol-0123456789abcdef0``."""
    return f"{prefix}-([0-9a-f]{{8}}|[0-9a-f]{{17}})"


def flag(text: str) -> bool:
    """``true`` or ``false``, in any case."""
    if text.lower() not in {"true", "false"}:
        raise SettingError("", text, "true or false")
    return text.lower() == "true"


def whole_number(text: str, smallest: int, largest: int, allowed: str) -> int:
    """A whole number in decimal digits."""
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII) or not smallest <= int(text) <= largest:
        raise SettingError("", text, allowed)
    return int(text)
