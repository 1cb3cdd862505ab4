"""Chroma on one EC2 instance that heals itself, as AWS CDK constructs."""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"
"""The release of this package, and of the template that it publishes."""

if TYPE_CHECKING:
    from chroma_stack.public import *  # noqa: F403
else:

    def __getattr__(name: str) -> object:
        # Importing the CDK takes seconds and starts Node.js, which commands that use no construct
        # do without.
        if name == "__all__" or name[:1].isupper():
            from chroma_stack import public

            if name in ("__all__", *public.__all__):
                return getattr(public, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
