"""The folder of ``--data``: what an AWS account would keep from one start to the next."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

from .errors import EmulatorError

LOCK, KEPT, DISK = "chroma-emulator.lock", "kept.json", "volume.img"


class DataFolder:
    """The volume's disk, the secrets' values and the port of one server; in use by one process at a time.

    :param path: the folder, which is made when there is none.
    :raises EmulatorError: when it is no folder of an emulator, or another one runs there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        try:
            if path.is_dir():
                _check(path)
            else:
                path.mkdir(mode=0o700, parents=True)
            self._lock = (path / LOCK).open("w")
        except OSError as error:
            raise EmulatorError(
                f"--data {path} is refused: {error.strerror}; name a folder that you can write to",
                2,
            ) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EmulatorError(
                f"an emulator runs with --data {path} already; end that one, or name another folder"
            ) from None
        self._kept: dict[str, Any] = {"served": False, "port": None, "secrets": {}}
        if (self.path / KEPT).exists():
            self._kept |= self._read()
        if not self._kept["served"]:
            # What a first boot that was ended left may be half a file system.
            self.disk.unlink(missing_ok=True)
            self._kept["secrets"] = {}

    def _read(self) -> dict[str, Any]:
        file = self.path / KEPT
        try:
            kept: dict[str, Any] = {**json.loads(file.read_text())}
            if not isinstance(kept.get("secrets", {}), dict):
                raise ValueError("no secrets")
        except (OSError, ValueError, TypeError):
            self._lock.close()
            raise EmulatorError(
                f"{file} is damaged, which holds the credential and whether the volume has data: bring back a copy of it, "
                "or name another folder by --data"
            ) from None
        return kept

    @property
    def disk(self) -> Path:
        """The volume's disk."""
        return self.path / DISK

    @property
    def served(self) -> bool:
        """Whether a server has served with this disk."""
        return bool(self._kept["served"])

    @property
    def port(self) -> int | None:
        """The port that the server had last."""
        port: int | None = self._kept["port"]
        return port

    @property
    def secrets(self) -> dict[str, str]:
        """The values of the stack's secrets, by names of the caller's choice."""
        return dict(self._kept["secrets"])

    def keep(self, **values: Any) -> None:
        """Keep some of ``served``, ``port`` and ``secrets``."""
        kept = self._kept | values
        if kept == self._kept and (self.path / KEPT).exists():
            return
        self._kept = kept
        new = self.path / f"{KEPT}.new"
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(kept, file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.path / KEPT)

    def close(self) -> None:
        """Let another process use it."""
        self._lock.close()


def _check(path: Path) -> None:
    """Refuse a folder that is there and not an emulator's, or that others can open."""
    if any(path.iterdir()) and not (path / LOCK).is_file():
        raise EmulatorError(
            f"--data {path} is refused: the folder holds something else; name an empty or a new one",
            2,
        )
    if path.stat().st_mode & 0o077:
        raise EmulatorError(
            f"--data {path} is refused: other users can open the folder; run chmod 700 on it, or name a new one",
            2,
        )
