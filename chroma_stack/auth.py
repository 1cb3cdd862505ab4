"""Who is let in: the credential that the front door asks for."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import NamedTuple

from aws_cdk import SecretValue
from aws_cdk import aws_iam as iam
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from chroma_stack.errors import SettingError

GENERATED_LENGTH = 40
"""Letters and digits of a generated token or password: 238 bits."""


class AuthMode(enum.Enum):
    """What a client has to send."""

    TOKEN = "token"
    BASIC = "basic"
    NONE = "none"


_NAMES = {
    "token": AuthMode.TOKEN,
    "chromadb.auth.token_authn.TokenAuthenticationServerProvider": AuthMode.TOKEN,
    "chromadb.auth.token.TokenAuthServerProvider": AuthMode.TOKEN,
    "basic": AuthMode.BASIC,
    "chromadb.auth.basic_authn.BasicAuthenticationServerProvider": AuthMode.BASIC,
    "chromadb.auth.basic.BasicAuthServerProvider": AuthMode.BASIC,
    "none": AuthMode.NONE,
}
"""Ours, and those of Chroma's documentation: the class names of 0.5 and of 0.4."""


def documented_names(mode: AuthMode) -> list[str]:
    """The class names of a mode in Chroma's documentation."""
    return [name for name, meant in _NAMES.items() if meant is mode and "." in name]


def check_origin(origin: str) -> str:
    """The origin as given.

    :raises SettingError: when it is none.
    """
    if not re.fullmatch(r"\*|https?://[A-Za-z0-9.-]+(?::\d{1,5})?", origin, re.ASCII):
        raise SettingError(
            "cors_allow_origins", origin, "origins such as https://app.example.com, or *"
        )
    return origin


class TokenHeader(enum.Enum):
    """The header that carries the token; exactly this one is accepted."""

    AUTHORIZATION = "Authorization"
    """``Authorization: Bearer TOKEN``"""

    X_CHROMA_TOKEN = "X-Chroma-Token"
    """``X-Chroma-Token: TOKEN``"""

    @property
    def names(self) -> list[str]:
        """The header's name, and the one that Chroma's documentation gave it before 0.5."""
        return [self.value, self.name]

    @staticmethod
    def of(name: str) -> TokenHeader:
        """The member for one of its names, in any case.

        :param name: the header's name, with hyphens or, as older releases of Chroma had it,
            with underscores.
        :raises SettingError: when there is none.
        """
        for header in TokenHeader:
            if name.lower() in (known.lower() for known in header.names):
                return header
        raise SettingError(
            "token_header", name, " or ".join(header.value for header in TokenHeader)
        )


class BoundAuth(NamedTuple):
    """What became of an authentication in a server."""

    secret: secretsmanager.ISecret | None
    """Its plain string is what a client sends; ``None`` when nobody is asked."""

    host_settings: dict[str, str]
    """What the machine has to know."""


def auth_settings(*, mode: str, token_header: str, secret_arn: str) -> dict[str, str]:
    """What ``host/haproxy.cfg`` and ``host/credential`` read."""
    return {"AUTH": mode, "AUTH_TOKEN_HEADER": token_header, "AUTH_SECRET": secret_arn}


@dataclass(frozen=True)
class ChromaAuth:
    """What the front door asks of a client. Made by :meth:`token`, :meth:`basic`,
    :meth:`none` or :meth:`of`."""

    mode: AuthMode
    """A token, a user's name and password, or nothing."""

    token_header: TokenHeader = TokenHeader.AUTHORIZATION
    """The header of a token."""

    secret: secretsmanager.ISecret | None = None
    """The secret that was given. ``None`` where one is to be made, or none is needed."""

    @staticmethod
    def token(
        *,
        secret: secretsmanager.ISecret | None = None,
        token_header: TokenHeader = TokenHeader.AUTHORIZATION,
    ) -> ChromaAuth:
        """A token in a header.

        :param secret: holds the token as its plain string: ASCII letters, digits and
            punctuation, no spaces. Default: a new secret with a generated token.
        :param token_header: the header. Default: ``Authorization: Bearer TOKEN``.
        """
        return ChromaAuth(AuthMode.TOKEN, token_header, secret)

    @staticmethod
    def basic(*, secret: secretsmanager.ISecret | None = None) -> ChromaAuth:
        """A user's name and a password (HTTP basic authentication).

        :param secret: holds ``user:password`` as its plain string. Default: a new secret
            with the user ``chroma`` and a generated password.
        """
        return ChromaAuth(AuthMode.BASIC, secret=secret)

    @staticmethod
    def none() -> ChromaAuth:
        """Nobody is asked: whoever reaches the port reads and writes everything."""
        return ChromaAuth(AuthMode.NONE)

    @staticmethod
    def of(
        name: str,
        *,
        secret: secretsmanager.ISecret | None = None,
        token_header: TokenHeader = TokenHeader.AUTHORIZATION,
    ) -> ChromaAuth:
        """By name: ``token``, ``basic``, ``none``, or the class name of an authentication
        provider in Chroma's documentation.

        :param name: the name.
        :param secret: holds the credential as its plain string. Default: a new secret with a
            generated one.
        :param token_header: the header of a token. Default: ``Authorization: Bearer TOKEN``.
        :raises SettingError: when the name is none of these.
        """
        mode = _NAMES.get(name)
        if mode is None:
            raise SettingError(
                "auth",
                name,
                "token, basic, none, or a provider's class name of Chroma's",
            )
        if mode is AuthMode.NONE and secret is not None:
            raise SettingError("auth", name, "token or basic, when there is a secret for it")
        return ChromaAuth(mode, token_header, secret)

    @property
    def description(self) -> str:
        """What a client has to send, in words."""
        if self.mode is AuthMode.TOKEN:
            bearer = "Bearer " if self.token_header is TokenHeader.AUTHORIZATION else ""
            return f"{self.token_header.value}: {bearer}TOKEN"
        if self.mode is AuthMode.BASIC:
            return "user and password (HTTP basic authentication)"
        return "nothing: whoever reaches port 8000 reads and writes everything"

    def bind(self, scope: Construct, role: iam.IRole) -> BoundAuth:
        """Make the credential, unless one was given, and let the role read it.

        :param role: the role of the machine.
        """
        secret = None
        if self.mode is not AuthMode.NONE:
            secret = self.secret or self._generate(scope)
            secret.grant_read(role)
        settings = auth_settings(
            mode=self.mode.value,
            token_header=self.token_header.value,
            secret_arn="" if secret is None else secret.secret_arn,
        )
        return BoundAuth(secret, settings)

    def _generate(self, scope: Construct) -> secretsmanager.ISecret:
        if self.mode is AuthMode.TOKEN:
            return _generated(scope, "Credential", "Token of the Chroma server")
        # Secrets Manager generates passwords, or JSON around them, but not "user:password".
        password = _generated(scope, "Password", "Part of the Chroma server's credential")
        return secretsmanager.Secret(
            scope,
            "Credential",
            description="user:password of the Chroma server",
            secret_string_value=SecretValue.unsafe_plain_text(
                f"chroma:{password.secret_value.unsafe_unwrap()}"
            ),
        )


def _generated(scope: Construct, name: str, description: str) -> secretsmanager.Secret:
    return secretsmanager.Secret(
        scope,
        name,
        description=description,
        generate_secret_string=secretsmanager.SecretStringGenerator(
            exclude_punctuation=True, password_length=GENERATED_LENGTH
        ),
    )
