"""The release of Chroma that the server runs."""

from __future__ import annotations

from chroma_stack.settings import Setting, matching

_RELEASE = r"(0\.([5-9]|[1-9][0-9]+)|[1-9][0-9]*\.[0-9]+)\.[0-9]+([.-]?[0-9A-Za-z][0-9A-Za-z.-]*)?"
"""A release from 0.5.0 on: three numbers, and for a pre-release what follows them."""

_ALLOWED = "a release number such as 1.5.9, 0.5.0 or later"


class ChromaVersion:
    """A release of Chroma, 0.5.0 or later.

    The members are the releases that the project's tests run; any other comes
    from :meth:`of`.
    """

    V0_6_3: ChromaVersion
    """0.6.3, the last release of the Python server."""

    V1_5_9: ChromaVersion
    """1.5.9, the default."""

    def __init__(self, version: str) -> None:
        """Use a member or :meth:`of` instead.

        :param version: the release, which is not checked here.
        """
        self.version: str = version
        """The release's number, which is the tag of its image."""

    @staticmethod
    def of(version: str) -> ChromaVersion:
        """Any release by its number, e.g. ``ChromaVersion.of("1.4.1")``.

        :param version: the release as it is tagged on Chroma's image: three numbers,
            and for a pre-release what follows them.
        :raises SettingError: when it is no such number, or older than 0.5.0.
        """
        return ChromaVersion(matching("version", version, _RELEASE, _ALLOWED))

    def __str__(self) -> str:
        return self.version


ChromaVersion.V0_6_3 = ChromaVersion("0.6.3")
ChromaVersion.V1_5_9 = ChromaVersion("1.5.9")

DEFAULT_VERSION = ChromaVersion.V1_5_9

SETTINGS = (
    Setting(
        key="chromaVersion",
        parameter="ChromaVersion",
        option="version",
        meaning="Release of Chroma, 0.5.0 or later.",
        default=str(DEFAULT_VERSION),
        pattern=_RELEASE,
        allowed=_ALLOWED,
        longest=64,
        parse=ChromaVersion.of,
    ),
)
