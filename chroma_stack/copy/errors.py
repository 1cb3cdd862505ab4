"""What stops a copy."""

from __future__ import annotations


class CopyError(Exception):
    """A sentence for the person who runs the copy, which ends with exit code 1."""


class UsageError(CopyError):
    """A sentence about arguments that cannot be used, which ends with exit code 2."""
