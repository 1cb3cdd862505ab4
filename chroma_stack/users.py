"""Who else is let in: users, each with a credential and an access of its own."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence

from aws_cdk import aws_iam as iam
from aws_cdk import aws_secretsmanager as secretsmanager
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from chroma_stack import auth
from chroma_stack.errors import SettingError
from chroma_stack.instance import InstanceRole
from chroma_stack.secrets import SecretArn, imported
from chroma_stack.settings import Setting, matching

RESERVED = ("admin", "chroma")
"""The names of the main credential."""

_NAME = rf"(?!({'|'.join(RESERVED)})$)[a-z][a-z0-9-]{{0,30}}"
_NAME_ALLOWED = (
    "a lower-case letter, followed by up to 30 lower-case letters, digits and hyphens; "
    f"not {' or '.join(RESERVED)}, which the main credential has"
)


class ChromaAccess(enum.Enum):
    """What a user may do. What each request needs is in ``docs/users.md``."""

    READ = "read"
    """Look up, list, count, get, query and search; nothing that changes anything."""

    WRITE = "write"
    """``READ``; and add, update, upsert and delete records, create and change collections."""

    ADMIN = "admin"
    """Everything, as the main credential: also delete collections, databases and tenants."""


_ACCESSES = {it.value: it for it in ChromaAccess}


class ChromaUser(Construct):
    """A user of a server, with a credential of its own. Made by
    :meth:`chroma_stack.ChromaServer.add_user`.

    The instance learns of it from a parameter of Systems Manager, within a minute: no instance is
    replaced for a user.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        role: InstanceRole,
        user_name: str,
        access: ChromaAccess,
        secret: secretsmanager.ISecret | SecretArn | None = None,
    ) -> None:
        """Use :meth:`chroma_stack.ChromaServer.add_user` instead.

        :param role: the role of the server's instance.
        :param user_name: the name, or a parameter that has it.
        :param access: what the user may do.
        :param secret: holds the token as its plain string. Default: a new secret with a generated
            one.
        :raises SettingError: when there can be no such user.
        """
        matching("users", user_name, _NAME, _NAME_ALLOWED)
        if not isinstance(access, ChromaAccess):
            raise SettingError("access", access, "ChromaAccess.READ, .WRITE or .ADMIN")
        super().__init__(scope, construct_id)
        self._user_name = user_name
        self._access = access
        if secret is None:
            own = auth.generated(self, "Credential", "Token of a user of the Chroma server")
            # By its tag the instance may read it, with the permissions that it has already.
            role.mark_as_own(own)
            self._secret: secretsmanager.ISecret = own
        else:
            self._secret = imported(self, "CredentialGiven", secret)
        parameter = ssm.StringParameter(
            self,
            "Parameter",
            description="Access of a user of the Chroma server, and the secret with its token",
            parameter_name=f"{auth.users_path(role)}/{user_name}",
            simple_name=False,
            string_value=f"{access.value} {self._secret.secret_arn}",
        )
        if secret is not None:
            # Not before: the instance would be refused when it first reads the secret.
            self._secret.grant_read(role).apply_before(parameter)

    @property
    def user_name(self) -> str:
        """The name, which the log has, and which a client sends that knows only user and
        password."""
        return self._user_name

    @property
    def access(self) -> ChromaAccess:
        """What the user may do."""
        return self._access

    @property
    def secret(self) -> secretsmanager.ISecret:
        """Its plain string is the user's token."""
        return self._secret

    def grant_read(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let a principal read this user's credential, and decrypt it where the secret has a
        customer-managed key.

        :param grantee: who may read it.
        """
        return self.secret.grant_read(grantee)


def parse(text: str) -> tuple[str, ChromaAccess]:
    """A user's name and access, as in ``search:read``.

    :raises SettingError: when it is neither.
    """
    name, _, access = text.partition(":")
    if access not in _ACCESSES:
        raise SettingError("users", text, "NAME:read, NAME:write or NAME:admin")
    return matching("users", name, _NAME, _NAME_ALLOWED), _ACCESSES[access]


def from_settings(users: Sequence[tuple[str, ChromaAccess]] = ()) -> Mapping[str, ChromaAccess]:
    """The users that settings describe.

    :param users: their names and accesses.
    :raises SettingError: when a name occurs twice.
    """
    names = [name for name, _ in users]
    for name in names:
        if names.count(name) > 1:
            raise SettingError("users", name, ONCE)
    return dict(users)


ONCE = "each name once"

SETTINGS = (
    Setting(
        key="users",
        only="The template has one reader beside the main credential, `ReaderUser`.",
        option="users",
        field="users",
        meaning="Users, each with a credential of its own and an access, `read`, `write` or "
        "`admin`, separated by commas.",
        note="For example `search:read,ingest:write`; [users.md](users.md) says what each may do.",
        without="none beside the main credential",
        parse=parse,
        several=True,
    ),
    Setting(
        parameter="ReaderUser",
        only="The CDK has `users`, which are any number, with any access.",
        option="users",
        field="reader",
        meaning="Name of a user that may only read, with a credential of its own.",
        without="none",
        pattern=_NAME,
        allowed=_NAME_ALLOWED,
    ),
)
