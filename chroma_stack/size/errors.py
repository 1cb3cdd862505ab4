"""How the command ends when it cannot answer."""

from __future__ import annotations


class Refused(Exception):
    """Something outside did not answer as it should; the message is one sentence."""
