"""The one way in which the emulator says that something cannot be done."""


class EmulatorError(Exception):
    """It cannot be done; the message says why in one sentence.

    :param code: the status that the command ends with: 1 it failed, 2 it was asked for what it does not do.
    """

    def __init__(self, sentence: str, code: int = 1) -> None:
        super().__init__(sentence)
        self.code: int = code
        """The status that the command ends with."""
