"""Who is let in: the credential that the proxy asks for."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

from aws_cdk import SecretValue
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from chroma_stack.acknowledge import acknowledge
from chroma_stack.errors import SettingError
from chroma_stack.instance import InstanceRole, arn
from chroma_stack.secrets import SecretArn, imported
from chroma_stack.settings import Setting

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


def parse_origin(origin: str) -> str:
    """An origin of web pages, as given.

    :raises SettingError: when it is none.
    """
    if not re.fullmatch(r"\*|https?://[A-Za-z0-9.-]+(?::\d{1,5})?", origin, re.ASCII):
        raise SettingError(
            "cors_allow_origins", origin, "origins such as https://app.example.com, or *"
        )
    return origin


class TokenHeader(enum.Enum):
    """The one header that a token is taken from, where there is to be only one."""

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


class AuthBinding(NamedTuple):
    """What became of an authentication in a server."""

    secret: secretsmanager.ISecret | None
    """Its plain string is what a client sends; ``None`` when there is no authentication."""

    host_settings: dict[str, str]
    """What ``host/proxy.cfg`` and ``host/credential`` read."""


def host_settings(
    *, mode: str, token_header: str, secret_arn: str, users_path: str
) -> dict[str, str]:
    """What ``host/proxy.cfg`` and ``host/credential`` read."""
    return {
        "AUTH": mode,
        "AUTH_TOKEN_HEADER": token_header,
        "AUTH_SECRET": secret_arn,
        "USERS": users_path,
    }


def users_path(role: InstanceRole) -> str:
    """The path of the parameters of Systems Manager that the instance finds the users in."""
    return f"/chroma/{role.server_name}/users"


def users_statements(role: InstanceRole) -> list[dict[str, Any]]:
    """What the instance needs to do for users: list them, and read their secrets, which carry the
    server's tag. The same with and without users, so that one more changes nothing.

    Listing is authorised against the path that is asked for:
    https://docs.aws.amazon.com/systems-manager/latest/userguide/ps-retrieval-authorization.html
    A batch knows no resources, and each secret in it needs ``GetSecretValue`` besides:
    https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_BatchGetSecretValue.html
    """
    path = arn("ssm", f"parameter{users_path(role)}")
    return [
        {"actions": ["ssm:GetParametersByPath"], "resources": [path, f"{path}/*"]},
        {"actions": ["secretsmanager:BatchGetSecretValue"], "resources": ["*"]},
        {
            "actions": ["secretsmanager:GetSecretValue"],
            "resources": [arn("secretsmanager", "secret:*")],
            "conditions": {"StringEquals": role.is_own},
        },
    ]


def _allow_users(role: InstanceRole) -> None:
    for statement in users_statements(role):
        role.allow(**statement)
    where = "<AWS::Region>:<AWS::AccountId>"
    role.acknowledge_wildcard(
        f"arn:<AWS::Partition>:ssm:{where}:parameter/chroma/<AWS::StackName>/"
        f"{role.id_in_stack}/users/*",
        "Users are added without a change of the policy; it is the path of this server's only.",
    )
    role.acknowledge_wildcard(
        f"arn:<AWS::Partition>:secretsmanager:{where}:secret:*",
        "Users are added without a change of the policy; a condition on the tag limits the "
        "permission to the secrets of this server's users.",
    )
    role.acknowledge_wildcard(
        "*",
        "A batch of secrets is no resource of IAM; each secret in it needs the permission to read "
        "it besides.",
    )


@dataclass(frozen=True)
class ChromaAuth:
    """What the proxy asks of a client. Made by :meth:`token`, :meth:`basic`, :meth:`none` or
    :meth:`of`."""

    mode: AuthMode
    """A token, a user's name and password, or nothing."""

    token_header: TokenHeader | None = None
    """The only header that a token is taken from. ``None`` where it may come in any way."""

    secret: secretsmanager.ISecret | SecretArn | None = None
    """The secret that was given. ``None`` where one is to be made, or none is needed."""

    @staticmethod
    def token(
        *,
        secret: secretsmanager.ISecret | SecretArn | None = None,
        token_header: TokenHeader | None = None,
    ) -> ChromaAuth:
        """A token.

        :param secret: holds the token as its plain string: ASCII letters, digits and
            punctuation, no spaces. Default: a new secret with a generated token.
        :param token_header: the only header that it is taken from. Default: it may come as
            ``Authorization: Bearer TOKEN``, as ``X-Chroma-Token: TOKEN``, or as the password of
            the user ``admin``.
        """
        return ChromaAuth(AuthMode.TOKEN, token_header, secret)

    @staticmethod
    def basic(*, secret: secretsmanager.ISecret | SecretArn | None = None) -> ChromaAuth:
        """A user's name and a password (HTTP basic authentication).

        :param secret: holds ``user:password`` as its plain string. Default: a new secret
            with the user ``chroma`` and a generated password.
        """
        return ChromaAuth(AuthMode.BASIC, secret=secret)

    @staticmethod
    def none() -> ChromaAuth:
        """No authentication: whoever reaches the port reads and writes everything."""
        return ChromaAuth(AuthMode.NONE)

    @staticmethod
    def of(
        name: str = AuthMode.TOKEN.value,
        *,
        secret: secretsmanager.ISecret | SecretArn | None = None,
        token_header: TokenHeader | None = None,
    ) -> ChromaAuth:
        """By name: ``token``, ``basic``, ``none``, or the class name of an authentication
        provider in Chroma's documentation.

        :param name: the name. Default: ``token``.
        :param secret: holds the credential as its plain string. Default: a new secret with a
            generated one.
        :param token_header: the only header that a token is taken from. Default: it may come in
            any way.
        :raises SettingError: when the name is none of these, or the others do not fit it.
        """
        mode = _NAMES.get(name)
        if mode is None:
            raise SettingError(
                "auth",
                name,
                "token, basic, none, or the class name of a provider of Chroma's",
            )
        if token_header is not None and mode is not AuthMode.TOKEN:
            raise SettingError("token_header", token_header.value, "only with auth=token")
        if secret is not None and mode is AuthMode.NONE:
            raise SettingError("secret", str(secret), "only with auth=token or auth=basic")
        return ChromaAuth(mode, token_header, secret)

    @property
    def description(self) -> str:
        """What a client has to send, in words."""
        if self.mode is AuthMode.TOKEN:
            bearer, other = "Authorization: Bearer TOKEN", "X-Chroma-Token: TOKEN"
            if self.token_header is None:
                return f"{bearer}, or {other}, or TOKEN as the password of the user admin"
            return bearer if self.token_header is TokenHeader.AUTHORIZATION else other
        if self.mode is AuthMode.BASIC:
            return "user and password (HTTP basic authentication)"
        return "nothing: whoever reaches port 8000 reads and writes everything"

    def _bind(self, scope: Construct, role: InstanceRole) -> AuthBinding:
        """Make the credential, unless one was given, and let the role read it, and those of
        users.

        :param role: the role of the instance.
        """
        secret = None
        if self.mode is not AuthMode.NONE:
            secret = self._generate(scope)
            secret.grant_read(role)
            _allow_users(role)
        return AuthBinding(
            secret,
            host_settings(
                mode=self.mode.value,
                token_header="" if self.token_header is None else self.token_header.value,
                secret_arn="" if secret is None else secret.secret_arn,
                users_path="" if secret is None else users_path(role),
            ),
        )

    def _generate(self, scope: Construct) -> secretsmanager.ISecret:
        if self.secret is not None:
            return imported(scope, "CredentialGiven", self.secret)
        if self.mode is AuthMode.TOKEN:
            return generated(scope, "Credential", "Token of the Chroma server")
        # Secrets Manager generates passwords, or JSON around them, but not "user:password".
        password = generated(scope, "Password", "Part of the Chroma server's credential")
        secret = secretsmanager.Secret(
            scope,
            "Credential",
            description="user:password of the Chroma server",
            secret_string_value=SecretValue.unsafe_plain_text(
                f"chroma:{password.secret_value.unsafe_unwrap()}"
            ),
        )
        acknowledge_no_rotation(secret)
        return secret


def generated(scope: Construct, name: str, description: str) -> secretsmanager.Secret:
    """A secret whose plain string is generated: letters and digits."""
    secret = secretsmanager.Secret(
        scope,
        name,
        description=description,
        generate_secret_string=secretsmanager.SecretStringGenerator(
            exclude_punctuation=True, password_length=GENERATED_LENGTH
        ),
    )
    acknowledge_no_rotation(secret)
    return secret


def acknowledge_no_rotation(secret: secretsmanager.Secret) -> None:
    """Acknowledge cdk-nag's finding on a secret that nothing rotates by schedule."""
    acknowledge(
        secret,
        "AwsSolutions-SMG4",
        "A new value is only of use once the clients or the collector have it too, so its owner "
        "writes it when they do; the instance picks it up without an interruption.",
    )


def from_settings(auth: str = AuthMode.TOKEN.value, **given: Any) -> ChromaAuth:
    """The authentication that settings describe, by the parameters of :meth:`ChromaAuth.of`.

    :raises SettingError: when a value is refused.
    """
    return ChromaAuth.of(auth, **given)


def _class_names(mode: AuthMode) -> tuple[str, ...]:
    """The class names of a mode in Chroma's documentation."""
    return tuple(name for name, meant in _NAMES.items() if meant is mode and "." in name)


TOKEN_CLASSES = _class_names(AuthMode.TOKEN)
BASIC_CLASSES = _class_names(AuthMode.BASIC)

PROVIDER = Setting(
    parameter="ChromaServerAuthProvider",
    only="Chroma's own template has it; the CDK has `auth`.",
    option="auth",
    field="auth",
    meaning="How clients authenticate, by the class name of a provider of Chroma's.",
    without="no authentication: whoever reaches the port reads and writes everything",
    values=(*TOKEN_CLASSES, *BASIC_CLASSES),
)
CREDENTIALS = Setting(
    parameter="ChromaServerAuthCredentials",
    only="Chroma's own template has it. With the CDK the credential would be in the template; "
    "`authSecretArn` takes it in a secret.",
    option="auth",
    field="secret",
    meaning="The token, or user:password (in plain text, no hash), that clients send.",
    without="none",
    pattern="[!-~]+",
    allowed="ASCII letters, digits and punctuation, no spaces",
    hidden=True,
)
SETTINGS = (
    Setting(
        key="auth",
        only="The published template has Chroma's own `ChromaServerAuthProvider`.",
        option="auth",
        field="auth",
        meaning="What clients must send: `token`, `basic` or `none`.",
        default=AuthMode.TOKEN.value,
        parse=str,
    ),
    PROVIDER,
    CREDENTIALS,
    Setting(
        key="authTokenHeader",
        parameter="ChromaAuthTokenTransportHeader",
        option="auth",
        field="token_header",
        meaning="The only header that a token is taken from: Authorization or X-Chroma-Token.",
        without="either, or as the password of HTTP basic authentication",
        values=tuple(name for header in TokenHeader for name in header.names),
        parse=TokenHeader.of,
    ),
    Setting(
        key="authSecretArn",
        only="The published template takes the credential itself.",
        option="auth",
        field="secret",
        meaning="Secret whose plain string, no JSON, is the token, or `user:password`.",
        note="By its whole ARN, of any region.",
        without="a new secret with a generated credential",
        parse=SecretArn.of,
    ),
    Setting(
        key="corsAllowOrigins",
        only="It has no parameter in Chroma's own template.",
        option="cors_allow_origins",
        meaning="Origins whose pages may call the server from a browser, separated by commas.",
        without="none",
        parse=parse_origin,
        several=True,
    ),
)
