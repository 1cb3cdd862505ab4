"""The one way in which a setting is refused at synth."""

from __future__ import annotations


class SettingError(ValueError):
    """A setting was given a value that the server could not run with.

    The message names the setting, the value and what is allowed.
    """

    def __init__(self, name: str, value: object, allowed: str) -> None:
        super().__init__(f"{name}={value!r} is refused: {allowed}")
        self.name = name
        self.value = value
        self.allowed = allowed

    def named(self, name: str) -> SettingError:
        """The same refusal under the name by which the user gave the value."""
        return SettingError(name, self.value, self.allowed)
