"""The one way in which a setting is refused at synth."""

from __future__ import annotations

import reprlib

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 100


class SettingError(ValueError):
    """A setting was given a value that the server could not run with.

    The message names the setting, the value, shortened when it is long, and what is allowed.
    """

    def __init__(self, name: str, value: object, allowed: str) -> None:
        """
        :param name: the setting.
        :param value: what it was given.
        :param allowed: what it may be given, in words.
        """
        super().__init__(f"{name}={_SHORT.repr(value)} is refused: {allowed}")
        self.name: str = name
        """The setting."""
        self.value: object = value
        """What it was given."""
        self.allowed: str = allowed
        """What it may be given, in words."""

    def named(self, name: str) -> SettingError:
        """The same refusal under the name by which the user gave the value.

        :param name: that name.
        """
        return SettingError(name, self.value, self.allowed)
