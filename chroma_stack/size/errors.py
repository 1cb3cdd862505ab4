"""How the command ends when it cannot answer."""

from __future__ import annotations


class WrongUse(Exception):
    """An option that is refused; the message is one sentence."""


class Refused(Exception):
    """Something outside did not answer as it should; the message is one sentence."""
