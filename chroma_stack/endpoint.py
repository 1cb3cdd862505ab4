"""What clients need of a server, whether it is made in this app or elsewhere."""

from __future__ import annotations

import functools
from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import jsii
from aws_cdk import Stack
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from chroma_stack.errors import SettingError

if TYPE_CHECKING:
    from chroma_stack.users import ChromaUser

PORT = 8000
"""The port of Chroma's own server, which its clients use by default."""


@dataclass(frozen=True)
class Endpoint:
    """Where clients reach the server."""

    hostname: str
    """A host name or an IP address."""

    port: int
    """The TCP port."""

    scheme: str = "http"
    """``https``, or ``http`` where clients do not need TLS."""

    @property
    def socket_address(self) -> str:
        """``hostname:port``"""
        return f"{self.hostname}:{self.port}"

    @property
    def url(self) -> str:
        """``scheme://hostname:port``"""
        return f"{self.scheme}://{self.socket_address}"


@jsii.implements(ec2.IConnectable)
class IChromaServer(Construct, metaclass=jsii.JSIIAbstractClass):
    """A Chroma server as its clients see it: the type to ask for in a construct that uses
    one. Abstract. It is a :class:`chroma_stack.ChromaServer`, or what
    :meth:`chroma_stack.ChromaServer.from_chroma_server_attributes` returns."""

    # jsii finds a property of an interface only when the class has it.
    @property
    @abstractmethod
    def connections(self) -> ec2.Connections:
        """Who may reach the server. The default port is the endpoint's."""

    @property
    @abstractmethod
    def endpoint(self) -> Endpoint:
        """Where clients reach the server."""

    @property
    @abstractmethod
    def secret(self) -> secretsmanager.ISecret | None:
        """Its plain string is the credential: the token, or ``user:password``. ``None`` when
        there is no authentication, or when it is not known here."""

    @property
    @abstractmethod
    def ca_certificate_parameter_name(self) -> str | None:
        """The parameter of Systems Manager that holds the certificate (PEM) of the server's own
        authority, for clients that use TLS. ``None`` when there is none, or when it is not known
        here."""

    @property
    def _needs_ca_certificate(self) -> bool:
        """Whether clients need that certificate to reach the endpoint."""
        return self.endpoint.scheme == "https" and self.ca_certificate_parameter_name is not None

    def grant_connect(
        self,
        peer: ec2.IConnectable,
        grantee: iam.IGrantable | None = None,
        *,
        user: ChromaUser | None = None,
    ) -> iam.Grant:
        """Open the server's port to a client, and let it read the credential; and, when the
        endpoint's URL begins with ``https`` and its certificate is of the server's own authority,
        the certificate of that.

        ``server.grant_connect(function)`` is all that a Lambda function in a VPC needs, in
        this stack or another. Where there is nothing to read, it opens the port only.

        :param peer: the client, such as a function, an instance or an ECS service.
        :param grantee: who reads them. Default: the client itself. For an ECS service, give
            the role that does it, e.g. ``task_definition.execution_role``.
        :param user: whose credential it reads: of this user only. Default: the main one.
        :raises SettingError: when there is something to read, and the client is no principal of
            IAM; or when the user is another server's.
        """
        self._check_user(user)
        secret = self.secret if user is None else user.secret
        if grantee is None and hasattr(peer, "grant_principal"):
            grantee = cast("iam.IGrantable", peer)
        if grantee is None and (secret is not None or self._needs_ca_certificate):
            raise SettingError(
                "grantee", "None", "the role that reads the credential for this client"
            )
        if _same_stack(peer, grantee):
            # The rule goes into their stack, which refers to the server's for the credential
            # already. A rule in the server's stack would refer back, which is a cycle.
            peer.connections.allow_to_default_port(self)
        else:
            self.connections.allow_default_port_from(peer)
        grants = []
        if grantee is not None and secret is not None:
            grants.append(secret.grant_read(grantee))
        if grantee is not None and self._needs_ca_certificate:
            grants.append(self.grant_read_ca_certificate(grantee))
        if not grants:
            return iam.Grant.drop(
                grantee or iam.UnknownPrincipal(resource=self), "there is no credential to read"
            )
        return functools.reduce(lambda one, other: one.combine(other), grants)

    def _check_user(self, user: ChromaUser | None) -> None:
        """Refuse another server's user, as far as that is known."""

    def grant_read_credential(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let a principal read the credential, and decrypt it where the secret has a
        customer-managed key.

        :param grantee: who may read it.
        :raises SettingError: when the server has no credential.
        """
        if self.secret is None:
            raise SettingError(
                "auth", "none", "token or basic, so that there is a credential to read"
            )
        return self.secret.grant_read(grantee)

    def grant_read_ca_certificate(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let a principal read the certificate of the server's own authority, from the parameter
        ``ca_certificate_parameter_name``.

        :param grantee: who may read it.
        :raises SettingError: when there is none, or when it is not known here.
        """
        name = self.ca_certificate_parameter_name
        if name is None:
            raise SettingError(
                "tls", "off", "optional or required, so that there is a certificate to read"
            )
        resource = name.removeprefix("/")
        return iam.Grant.add_to_principal(
            grantee=grantee,
            actions=["ssm:GetParameter", "ssm:GetParameters"],
            resource_arns=[
                Stack.of(self).format_arn(
                    service="ssm", resource="parameter", resource_name=resource
                )
            ],
        )


def _same_stack(one: object, other: object) -> bool:
    constructs = [it for it in (one, other) if isinstance(it, Construct)]
    return len(constructs) == 2 and len({Stack.of(it).node.addr for it in constructs}) == 1


class ImportedServer(IChromaServer):
    """A server that was made elsewhere."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        endpoint: Endpoint,
        security_group: ec2.ISecurityGroup,
        secret: secretsmanager.ISecret | None,
        ca_certificate_parameter_name: str | None,
    ) -> None:
        super().__init__(scope, construct_id)
        self._ca_certificate_parameter_name = ca_certificate_parameter_name
        self._endpoint = endpoint
        self._secret = secret
        self._connections = ec2.Connections(
            security_groups=[security_group], default_port=ec2.Port.tcp(endpoint.port)
        )

    @property
    def connections(self) -> ec2.Connections:
        return self._connections

    @property
    def endpoint(self) -> Endpoint:
        return self._endpoint

    @property
    def secret(self) -> secretsmanager.ISecret | None:
        return self._secret

    @property
    def ca_certificate_parameter_name(self) -> str | None:
        return self._ca_certificate_parameter_name
