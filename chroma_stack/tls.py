"""TLS on the server's port, and where its certificate comes from."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import aws_cdk as cdk
from aws_cdk import aws_certificatemanager as certificatemanager
from aws_cdk import aws_iam as iam
from aws_cdk import aws_route53 as route53
from aws_cdk import aws_secretsmanager as secretsmanager
from aws_cdk import aws_ssm as ssm
from constructs import Construct, IDependable

from chroma_stack import address as addresses
from chroma_stack.acknowledge import acknowledge
from chroma_stack.errors import SettingError
from chroma_stack.instance import InstanceRole, arn
from chroma_stack.secrets import ARN as SECRET_ARN
from chroma_stack.secrets import ARN_ALLOWED as SECRET_ARN_ALLOWED
from chroma_stack.secrets import SecretArn, imported
from chroma_stack.settings import EMAIL, EMAIL_ALLOWED, Setting, matching

LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"
"""https://letsencrypt.org/docs/acme-protocol-updates/"""

CA_FILE = "chroma-ca.pem"
"""What the commands among the outputs call the certificate of the server's own authority."""

NOT_WRITTEN = "The server writes the certificate of its authority here when it starts."
"""What the parameter holds until then. CloudFormation may write it again when a property of the
parameter changes, so none of them should."""

_DIRECTORY = r"https://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[!-~]*)?"
_DIRECTORY_ALLOWED = f"the URL of an ACME directory, such as {LETS_ENCRYPT}"
_ZONE_ID = "Z[A-Z0-9]{1,31}"
_ZONE_ID_ALLOWED = "the id of a hosted zone, such as Z0123456789ABCDEFGHIJ"
_LONGEST_SECRET_ARN = 600
"""The name of a secret may have 512 characters:
https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_CreateSecret.html"""

_CHANGES = "route53:ChangeResourceRecordSets"


class TlsMode(enum.Enum):
    """What the port takes."""

    OPTIONAL = "optional"
    """Both plain HTTP and TLS."""

    REQUIRED = "required"
    """TLS. A plain request is refused before its credential is looked at."""

    OFF = "off"
    """Plain HTTP."""

    @staticmethod
    def of(name: str) -> TlsMode:
        """The member with that name.

        :param name: ``optional``, ``required`` or ``off``.
        :raises SettingError: when there is none.
        """
        for mode in TlsMode:
            if mode.value == name:
                return mode
        raise SettingError("tls", name, " or ".join(mode.value for mode in TlsMode))


class CertificateSource(enum.Enum):
    """Where the certificate comes from."""

    OWN_AUTHORITY = "own authority"
    """An authority of the server's own."""

    ACME = "ACME"
    """An authority that is asked by ACME."""

    ACM = "ACM"
    """AWS Certificate Manager, by ACME."""

    SECRET = "secret"
    """A secret that holds one."""


class TlsBinding(NamedTuple):
    """What became of TLS in a server."""

    ca_certificate_parameter_name: str | None
    """The parameter that the instance writes its authority's certificate to."""

    host_settings: dict[str, str]
    """What ``host/certificate`` and the proxy read."""

    needed: Sequence[IDependable] = ()
    """What has to be there before an instance starts."""


@dataclass(frozen=True)
class ChromaTls:
    """TLS on the server's port. Made by :meth:`own_authority`, :meth:`acme`, :meth:`acm`,
    :meth:`from_secret` or :meth:`off`."""

    mode: TlsMode = TlsMode.OPTIONAL
    """Whether the port takes plain HTTP, TLS, or both."""

    source: CertificateSource = CertificateSource.OWN_AUTHORITY
    """Where the certificate comes from. Until another authority has issued it, one of the server's
    own authority is in use."""

    domain_name: str | None = None
    """The name that the certificate is for, beside the server's own names. ``None`` where the
    server's ``domain_name`` says it, or there is none."""

    hosted_zone: route53.IHostedZone | str | None = None
    """The zone of that name, or its id."""

    secret: secretsmanager.ISecret | SecretArn | None = None
    """What holds a certificate of yours."""

    directory_url: str = ""
    """The authority's ACME directory."""

    email: str | None = None
    """Where the authority writes to."""

    external_account_binding: secretsmanager.ISecret | SecretArn | None = None
    """What holds the authority's key for an account."""

    @staticmethod
    def own_authority(*, mode: TlsMode = TlsMode.OPTIONAL) -> ChromaTls:
        """A certificate of an authority of the server's own, which is made on the instance and
        kept on the data volume. Clients trust it with the authority's certificate, which is in
        the server's ``ca_certificate_parameter_name``.

        :param mode: whether plain HTTP is taken too. Default: both are taken.
        """
        return ChromaTls(mode)

    @staticmethod
    def acme(
        *,
        domain_name: str,
        hosted_zone: route53.IHostedZone | str,
        directory_url: str = LETS_ENCRYPT,
        email: str | None = None,
        external_account_binding: secretsmanager.ISecret | SecretArn | None = None,
        mode: TlsMode = TlsMode.OPTIONAL,
    ) -> ChromaTls:
        """A certificate that every client trusts, from Let's Encrypt or another authority with
        ACME. The instance answers its challenge by a record in the zone, so no port is opened
        for it, and the server may be in a private subnet. The name's own record leads to the
        server.

        :param domain_name: the name, in the zone; no wildcard.
        :param hosted_zone: a public hosted zone of Route 53, or its id. The record that leads to
            the server is in it too, unless the server has a ``hosted_zone`` of its own.
        :param directory_url: the authority's ACME directory. Default: that of Let's Encrypt.
        :param email: where the authority writes to. Default: none.
        :param external_account_binding: a secret for an authority that asks for one: JSON with
            ``kid`` and ``hmacKey``. Default: none.
        :param mode: whether plain HTTP is taken too. Default: both are taken.
        :raises SettingError: when a value is none of these.
        """
        _check_name(domain_name, hosted_zone)
        matching("directory_url", directory_url, _DIRECTORY, _DIRECTORY_ALLOWED)
        if email is not None:
            matching("email", email, EMAIL, EMAIL_ALLOWED)
        _refuse_off(mode)
        return ChromaTls(
            mode,
            CertificateSource.ACME,
            domain_name,
            hosted_zone,
            directory_url=directory_url,
            email=email,
            external_account_binding=external_account_binding,
        )

    @staticmethod
    def acm(
        *,
        domain_name: str,
        hosted_zone: route53.IHostedZone | str,
        mode: TlsMode = TlsMode.OPTIONAL,
    ) -> ChromaTls:
        """A certificate that every client trusts, from AWS Certificate Manager by ACME. The
        stack makes an ACME endpoint, which validates the name once. Needs a release of
        aws-cdk-lib that has ``aws_certificatemanager.CfnAcmeEndpoint``.

        https://docs.aws.amazon.com/acm/latest/userguide/acm-acme-endpoints.html

        :param domain_name: the name, in the zone; no wildcard.
        :param hosted_zone: a public hosted zone of Route 53, or its id. The record that leads to
            the server is in it too, unless the server has a ``hosted_zone`` of its own.
        :param mode: whether plain HTTP is taken too. Default: both are taken.
        :raises SettingError: when a value is none of these, or aws-cdk-lib is too old.
        """
        _check_name(domain_name, hosted_zone)
        _refuse_off(mode)
        if not hasattr(certificatemanager, "CfnAcmeEndpoint"):
            raise SettingError(
                "tls", "acm", "only with a later release of aws-cdk-lib, such as 2.275.0"
            )
        return ChromaTls(mode, CertificateSource.ACM, domain_name, hosted_zone)

    @staticmethod
    def from_secret(
        secret: secretsmanager.ISecret | SecretArn,
        *,
        domain_name: str | None = None,
        hosted_zone: route53.IHostedZone | str | None = None,
        mode: TlsMode = TlsMode.OPTIONAL,
    ) -> ChromaTls:
        """A certificate of yours. The instance takes a new one up within a minute.

        :param secret: holds the certificate, its chain and its key: PEM as plain string, or JSON
            as ACM and cert-manager export it.
        :param domain_name: the name that clients use. Default: the server's ``domain_name``, else
            its public DNS name or its private one.
        :param hosted_zone: a hosted zone of Route 53, or its id, for the record that leads to the
            server. Default: the server's ``hosted_zone``, else the record is yours to make.
        :param mode: whether plain HTTP is taken too. Default: both are taken.
        :raises SettingError: when a value is none of these.
        """
        _check_name(domain_name, hosted_zone)
        _refuse_off(mode)
        return ChromaTls(mode, CertificateSource.SECRET, domain_name, hosted_zone, secret)

    @staticmethod
    def off() -> ChromaTls:
        """No TLS: the credential and the data cross the network unencrypted."""
        return ChromaTls(TlsMode.OFF)

    @property
    def scheme(self) -> str:
        """What the server's URL begins with: ``https`` when plain HTTP is refused, or when
        clients trust the certificate by themselves; otherwise ``http``, which works for
        clients that have not got the authority's certificate."""
        if self.mode is TlsMode.OFF:
            return "http"
        own = self.source is CertificateSource.OWN_AUTHORITY
        return "http" if own and self.mode is TlsMode.OPTIONAL else "https"

    @property
    def _trusted_by_file(self) -> bool:
        """Whether clients that use TLS need the certificate of the server's own authority."""
        return self.mode is not TlsMode.OFF and self.source is CertificateSource.OWN_AUTHORITY

    @property
    def _curl_options(self) -> str:
        """What ``curl`` needs to trust the server under its URL, with a space after it."""
        needed = self.scheme == "https" and self._trusted_by_file
        return f"--cacert {CA_FILE} " if needed else ""

    def _name(self, domain_name: str | None) -> str | None:
        """The server's name, which the server's options may give too."""
        if domain_name is None or self.domain_name is None:
            return domain_name or self.domain_name
        if domain_name != self.domain_name:
            raise SettingError(
                "domain_name",
                domain_name,
                f"left out, or the one that the certificate is for, {self.domain_name}",
            )
        return domain_name

    def _public_address(
        self,
        scope: Construct,
        *,
        domain_name: str | None,
        hosted_zone: route53.IHostedZone | None,
    ) -> addresses.Address:
        """The address of a server in a public subnet."""
        return addresses.elastic_ip(scope, domain_name=domain_name, hosted_zone=hosted_zone)

    def _imported_zone(self, scope: Construct) -> route53.IHostedZone | None:
        """The zone as a construct. By its id alone its name is not known."""
        if isinstance(self.hosted_zone, str):
            return route53.HostedZone.from_hosted_zone_id(
                scope, "HostedZoneGiven", self.hosted_zone
            )
        return self.hosted_zone

    @property
    def _zone_id(self) -> str:
        assert self.hosted_zone is not None
        if isinstance(self.hosted_zone, str):
            return self.hosted_zone
        return self.hosted_zone.hosted_zone_id

    def _bind(
        self, scope: Construct, role: InstanceRole, *, address: addresses.Address
    ) -> TlsBinding:
        """Make what the certificate comes from, and let the role use it.

        :param role: the role of the instance.
        :param address: the server's address, whose names the certificate is for.
        """
        if self.mode is TlsMode.OFF:
            return TlsBinding(None, host_settings(mode=self.mode.value))
        parameter = ca_certificate_parameter(scope, role)
        role.allow(["ssm:PutParameter"], [arn("ssm", f"parameter/{parameter.parameter_name}")])
        given: dict[str, str] = {}
        needed: list[IDependable] = []
        match self.source:
            case CertificateSource.SECRET:
                given = {"secret": self._readable(scope, role, "TlsCertificateGiven", self.secret)}
            case CertificateSource.ACME:
                given = self._bind_acme(scope, role)
            case CertificateSource.ACM:
                given, needed = self._bind_acm(scope, role)
        return TlsBinding(
            parameter.parameter_name,
            host_settings(
                mode=self.mode.value,
                names=address.names,
                ca_parameter=parameter.parameter_name,
                **given,
            ),
            needed,
        )

    @staticmethod
    def _readable(
        scope: Construct,
        role: InstanceRole,
        name: str,
        secret: secretsmanager.ISecret | SecretArn | None,
    ) -> str:
        if secret is None:
            return ""
        try:
            found = imported(scope, name, secret)
        except SettingError as error:
            raise error.named(_SECRET_FIELDS[name]) from None
        found.grant_read(role)
        return found.secret_arn

    def _bind_acme(self, scope: Construct, role: InstanceRole) -> dict[str, str]:
        """https://certbot-dns-route53.readthedocs.io/en/stable/#credentials"""
        for statement in challenge_statements(str(self.domain_name), self._zone_id):
            role.allow(statement["actions"], statement["resources"], statement["conditions"])
        acknowledge_challenge(role)
        return {
            "directory": self.directory_url,
            "email": self.email or "",
            "binding_secret": self._readable(
                scope, role, "AcmeBindingGiven", self.external_account_binding
            ),
        }

    def _bind_acm(
        self, scope: Construct, role: InstanceRole
    ) -> tuple[dict[str, str], list[IDependable]]:
        endpoint = certificatemanager.CfnAcmeEndpoint(
            scope,
            "AcmeEndpoint",
            authorization_behavior="PRE_APPROVED",
            contact="NOT_REQUIRED",
            certificate_authority=certificatemanager.CfnAcmeEndpoint.CertificateAuthorityProperty(
                public_certificate_authority=certificatemanager.CfnAcmeEndpoint.PublicCertificateAuthorityProperty(
                    allowed_key_algorithms=["EC_prime256v1", "RSA_2048"]
                )
            ),
        )
        kind = certificatemanager.CfnAcmeDomainValidation
        validation = kind(
            scope,
            "AcmeDomainValidation",
            acme_endpoint_arn=endpoint.attr_acme_endpoint_arn,
            domain_name=str(self.domain_name),
            prevalidation_options=kind.PrevalidationOptionsProperty(
                dns_prevalidation=kind.DnsPrevalidationOptionsProperty(
                    hosted_zone_id=self._zone_id,
                    domain_scope=kind.DomainScopeProperty(
                        exact_domain="ENABLED", subdomains="DISABLED", wildcards="DISABLED"
                    ),
                )
            ),
        )
        issuance = _issuance_role(scope, str(self.domain_name))
        binding = certificatemanager.CfnAcmeExternalAccountBinding(
            scope,
            "AcmeBinding",
            acme_endpoint_arn=endpoint.attr_acme_endpoint_arn,
            role_arn=issuance.role_arn,
        )
        # ACM tries the role when the binding is made.
        binding.node.add_dependency(issuance)
        binding_arn = binding.attr_acme_external_account_binding_arn
        role.allow(["acm:GetAcmeExternalAccountBindingCredentials"], [binding_arn])
        given = {"directory": endpoint.attr_endpoint_url, "acm_binding": binding_arn}
        return given, [validation]


def host_settings(
    *,
    mode: str,
    names: Sequence[str] = (),
    ca_parameter: str = "",
    secret: str = "",
    directory: str = "",
    email: str = "",
    binding_secret: str = "",
    acm_binding: str = "",
) -> dict[str, str]:
    """What ``host/certificate`` and the proxy read. Without TLS they find only its mode."""
    return {
        "TLS": mode,
        "TLS_NAMES": " ".join(names),
        "CA_PARAMETER": ca_parameter,
        "TLS_SECRET": secret,
        "ACME_DIRECTORY": directory,
        "ACME_EMAIL": email,
        "ACME_BINDING_SECRET": binding_secret,
        "ACM_BINDING": acm_binding,
    }


def ca_certificate_parameter(scope: Construct, role: InstanceRole) -> ssm.StringParameter:
    """Where the instance writes the certificate of its authority, and clients read it."""
    parameter = ssm.StringParameter(
        scope,
        "CaCertificate",
        description="Certificate of the authority of the Chroma server's own",
        string_value=NOT_WRITTEN,
    )
    role.mark_as_own(parameter)
    return parameter


def challenge_statements(domain_name: str, hosted_zone_id: str) -> list[dict[str, Any]]:
    """What ``certbot`` may do to answer a challenge: change this one record.

    ``ForAllValues`` holds for a request without the key, which ``Null`` refuses:
    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-single-vs-multi-valued-context-keys.html
    The forms of the values:
    https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/specifying-rrset-conditions.html
    """
    values = {
        f"{_CHANGES}NormalizedRecordNames": [f"_acme-challenge.{domain_name}"],
        f"{_CHANGES}RecordTypes": ["TXT"],
        f"{_CHANGES}Actions": ["UPSERT", "DELETE"],
    }
    route53_arn = f"arn:{cdk.Aws.PARTITION}:route53:::"
    return [
        {"actions": ["route53:ListHostedZones"], "resources": ["*"], "conditions": None},
        {
            "actions": ["route53:GetChange"],
            "resources": [f"{route53_arn}change/*"],
            "conditions": None,
        },
        {
            "actions": [_CHANGES],
            "resources": [f"{route53_arn}hostedzone/{hosted_zone_id}"],
            "conditions": {
                "ForAllValues:StringEquals": values,
                "Null": dict.fromkeys(values, "false"),
            },
        },
    ]


def acknowledge_challenge(role: InstanceRole) -> None:
    """Acknowledge cdk-nag's findings on these."""
    role.acknowledge_wildcard(
        "*", "route53:ListHostedZones, by which certbot finds the zone, knows no resources."
    )
    role.acknowledge_wildcard(
        "arn:<AWS::Partition>:route53:::change/*",
        "The id of a change is not known before it is made, and says nothing but whether the "
        "change has reached all name servers.",
    )


def _issuance_role(scope: Construct, domain_name: str) -> iam.Role:
    """The role by which ACM checks what the binding may be used for. It is not the instance's, so that the
    instance cannot request certificates without ACME.

    https://docs.aws.amazon.com/acm/latest/userguide/security-iam-acme.html
    """
    of_acme = {"StringLikeIfExists": {"sts:SourceIdentity": "acm-acme-*"}}
    principal = iam.ServicePrincipal("acm-acme.amazonaws.com")
    role = iam.Role(
        scope,
        "AcmeIssuance",
        assumed_by=principal.with_conditions(of_acme),
        description="What ACM may issue to a Chroma server",
    )
    assert role.assume_role_policy is not None
    role.assume_role_policy.add_statements(
        iam.PolicyStatement(
            actions=["sts:TagSession", "sts:SetSourceIdentity"],
            principals=[principal],
            conditions=of_acme,
        )
    )
    role.add_to_policy(
        iam.PolicyStatement(
            actions=["acm:RequestCertificate"],
            resources=["*"],
            conditions={
                "StringEquals": {"acm:CertificateKeyPairOrigin": "ACME"},
                "ForAllValues:StringEquals": {"acm:DomainNames": [domain_name]},
                "Null": {"acm:DomainNames": "false"},
            },
        )
    )
    acknowledge(
        role,
        "AwsSolutions-IAM5[Resource::*]",
        "A certificate has no ARN before it is requested; conditions limit the permission to "
        "this server's name, and to ACME.",
    )
    return role


def _refuse_off(mode: TlsMode) -> None:
    if mode is TlsMode.OFF:
        raise SettingError("mode", mode.value, "optional or required, to use a certificate")


def _check_name(domain_name: str | None, hosted_zone: route53.IHostedZone | str | None) -> None:
    if isinstance(hosted_zone, str):
        matching("hosted_zone", hosted_zone, _ZONE_ID, _ZONE_ID_ALLOWED)
    if domain_name is not None:
        addresses.checked(domain_name, None if isinstance(hosted_zone, str) else hosted_zone)


_SECRET_FIELDS = {
    "TlsCertificateGiven": "certificate_secret",
    "AcmeBindingGiven": "external_account_binding",
}


def from_settings(
    *,
    mode: TlsMode = TlsMode.OPTIONAL,
    domain_name: str | None = None,
    hosted_zone: str | None = None,
    certificate_secret: SecretArn | None = None,
    **acme: Any,
) -> ChromaTls:
    """TLS as settings describe it.

    :raises SettingError: when they do not go together.
    """
    if hosted_zone is not None and domain_name is None:
        raise SettingError("hosted_zone", hosted_zone, "only together with domainName")
    certificate = {**acme, "certificate_secret": certificate_secret}
    for name, value in certificate.items():
        if value is not None and mode is TlsMode.OFF:
            raise SettingError(name, str(value), "only without tls=off")
    for name, value in acme.items():
        if hosted_zone is None:
            raise SettingError(name, str(value), "only together with domainName and hostedZoneId")
        if certificate_secret is not None:
            raise SettingError(name, str(value), "only without tlsCertificateSecretArn")
    if certificate_secret is not None:
        return ChromaTls.from_secret(
            certificate_secret, domain_name=domain_name, hosted_zone=hosted_zone, mode=mode
        )
    if domain_name is not None and hosted_zone is not None and mode is not TlsMode.OFF:
        return ChromaTls.acme(domain_name=domain_name, hosted_zone=hosted_zone, mode=mode, **acme)
    return ChromaTls(mode, domain_name=domain_name, hosted_zone=hosted_zone)


SETTINGS = (
    Setting(
        key="tls",
        parameter="TlsMode",
        option="tls",
        field="mode",
        meaning="What port 8000 takes: `optional` is both plain HTTP and TLS, `required` is TLS, "
        "`off` is plain HTTP.",
        default=TlsMode.OPTIONAL.value,
        values=tuple(mode.value for mode in TlsMode),
        longest=max(len(mode.value) for mode in TlsMode),
        parse=TlsMode.of,
    ),
    Setting(
        key="tlsCertificateSecretArn",
        parameter="TlsCertificateSecretArn",
        option="tls",
        field="certificate_secret",
        meaning="Secret that holds a certificate of yours with its chain and key, as PEM or JSON.",
        without="one from an authority: for a name in a hosted zone Let's Encrypt's, otherwise the "
        "server's own",
        pattern=SECRET_ARN,
        allowed=SECRET_ARN_ALLOWED,
        longest=_LONGEST_SECRET_ARN,
        parse=SecretArn.of,
    ),
    Setting(
        key="domainName",
        parameter="DomainName",
        option="tls",
        field="domain_name",
        meaning="Name that clients use for the server, such as chroma.example.com.",
        without="the public DNS name of its address",
        pattern=addresses.NAME,
        allowed=addresses.NAME_ALLOWED,
        longest=addresses.LONGEST_NAME,
    ),
    Setting(
        key="hostedZoneId",
        parameter="HostedZoneId",
        option="tls",
        field="hosted_zone",
        meaning="Public hosted zone of Route 53 that the name is in, below the zone's own name. The "
        "stack makes the record, and the server gets a certificate that every client trusts.",
        without="the record is yours to make",
        pattern=_ZONE_ID,
        allowed=_ZONE_ID_ALLOWED,
        longest=32,
    ),
    Setting(
        key="acmeDirectory",
        only="The published template uses Let's Encrypt.",
        option="tls",
        field="directory_url",
        meaning="ACME directory of the authority that the certificate for `domainName` comes from.",
        without=f"that of Let's Encrypt, {LETS_ENCRYPT}",
        pattern=_DIRECTORY,
        allowed=_DIRECTORY_ALLOWED,
    ),
    Setting(
        key="acmeEmail",
        only="The published template gives the authority no address.",
        option="tls",
        field="email",
        meaning="Where that authority writes to.",
        without="none",
        pattern=EMAIL,
        allowed=EMAIL_ALLOWED,
    ),
    Setting(
        key="acmeBindingSecretArn",
        only="The published template uses Let's Encrypt, which asks for none.",
        option="tls",
        field="external_account_binding",
        meaning="Secret with the key that such an authority asks for: JSON with `kid` and "
        "`hmacKey`.",
        without="none",
        parse=SecretArn.of,
    ),
)
