"""TLS, as far as the template decides it: where the certificate comes from, and who may do what for it."""

from __future__ import annotations

import json
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_certificatemanager as certificatemanager
from aws_cdk import aws_route53 as route53
from aws_cdk import aws_secretsmanager as secretsmanager
from aws_cdk.assertions import Template

from chroma_stack import ChromaServer, ChromaTls, SecretArn, SettingError, TlsMode
from tests.unit.cloudformation import Body
from tests.unit.construct import PUBLIC, server_in, server_template
from tests.unit.synthesis import host_settings, properties, stack, statements, template, warnings

PARAMETER = "AWS::SSM::Parameter"
RECORD = "AWS::Route53::RecordSet"
ACM = "AWS::CertificateManager::"
CERTIFICATE = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:certificate-AbCdEf"
BINDING = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:binding-AbCdEf"
NAME = "chroma.example.com"
ZONE = "Z0123456789ABCDEFGHIJ"
PUBLIC_NAME: dict[str, Any] = {"domain_name": NAME, "hosted_zone": ZONE}


def made(tls: ChromaTls, **more: Any) -> tuple[ChromaServer, Template]:
    """A server in a public subnet with this TLS, and the template of its stack."""
    theirs = cdk.Stack(cdk.App(), "Theirs")
    server = server_in(theirs, lambda _: {"vpc_subnets": PUBLIC, "tls": tls, **more})
    return server, Template.from_stack(theirs)


def ca_parameter(of: Template) -> str:
    """The logical id of the parameter for the authority's certificate."""
    [found] = [name for name in of.find_resources(PARAMETER) if "CaCertificate" in name]
    return found


def allowed(of: Template, action: str) -> list[Body]:
    """The statements that allow the instance an action."""
    return [it for it in statements(of) if action in it["Action"]]


def outputs(**settings: str) -> dict[str, str]:
    """The outputs of the stack, each reference written as its JSON."""
    found = template(**settings).to_json()["Outputs"]
    return {name: json.dumps(output["Value"]) for name, output in found.items()}


def test_the_port_takes_both_with_a_certificate_of_the_servers_own_unless_told_otherwise() -> None:
    settings = host_settings(template())
    assert settings["TLS"] == "optional"
    for name in ("TLS_SECRET", "ACME_DIRECTORY", "ACM_BINDING"):
        assert settings[name] == ""


def test_plain_clients_go_on_working_under_the_url_of_the_default() -> None:
    assert "http://" in outputs()["ServerUrl"]
    assert "cacert" not in outputs()["HeartbeatCommand"]


def test_the_servers_url_is_https_where_plain_is_refused() -> None:
    found = outputs(tls="required")
    assert "https://" in found["ServerUrl"]
    assert found["HeartbeatCommand"].count("curl --cacert chroma-ca.pem --fail https://") == 2


def test_the_servers_url_is_https_where_every_client_trusts_the_certificate() -> None:
    for settings in (
        {"domainName": NAME, "hostedZoneId": ZONE},
        {"tlsCertificateSecretArn": CERTIFICATE},
    ):
        found = outputs(**settings)
        assert "https://" in found["ServerUrl"]
        assert "--cacert" not in found["HeartbeatCommand"]
        assert "CaCertificateCommand" not in found


@pytest.mark.parametrize("settings", [{}, {"tls": "required"}, {"domainName": NAME}], ids=str)
def test_a_command_writes_the_authoritys_certificate_into_a_file(settings: dict[str, str]) -> None:
    command = outputs(**settings)["CaCertificateCommand"]
    assert ca_parameter(template(**settings)) in command
    assert command.startswith('{"Fn::Join": ["", ["aws ssm get-parameter --region ')
    assert "--query Parameter.Value --output text > chroma-ca.pem" in command


def test_the_authoritys_certificate_is_in_a_parameter_that_the_instance_alone_writes() -> None:
    parameter = ca_parameter(template())
    assert host_settings(template())["CA_PARAMETER"] == f"<{parameter}>"
    [write] = allowed(template(), "ssm:PutParameter")
    assert f"parameter/', {{'Ref': '{parameter}'}}" in str(write["Resource"])
    assert "*" not in json.dumps(write["Resource"])
    resource = template().find_resources(PARAMETER)[parameter]["Properties"]
    assert "The server writes" in resource["Value"]
    # ssm:GetParameters is allowed by this tag.
    assert "chroma-server" in resource["Tags"]


def test_without_tls_there_is_none_of_it_and_the_synth_warns() -> None:
    off = template(tls="off", allowedCidr="10.0.0.0/8")
    settings = host_settings(off)
    assert settings["TLS"] == "off"
    assert (settings["TLS_NAMES"], settings["CA_PARAMETER"]) == ("", "")
    assert [it for it in off.find_resources(PARAMETER) if "CaCertificate" in it] == []
    assert allowed(off, "ssm:PutParameter") == []
    [warning] = warnings(stack(tls="off", allowedCidr="10.0.0.0/8"))
    assert "unencrypted" in warning


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("optional", "takes plain HTTP: clients that use http:// send"),
        ("off", "there is no TLS: clients send"),
    ],
)
def test_a_port_that_the_world_reaches_in_plain_is_warned_of(mode: str, said: str) -> None:
    assert any(
        said in warning and "tls=required" in warning for warning in warnings(stack(tls=mode))
    )


def test_a_port_that_refuses_plain_requests_may_be_open_to_the_world() -> None:
    assert warnings(stack(tls="required")) == []


def test_a_name_in_a_zone_gets_a_certificate_by_acme_and_a_record() -> None:
    server, of = made(ChromaTls.acme(**PUBLIC_NAME))
    settings = host_settings(of)
    assert settings["ACME_DIRECTORY"] == "https://acme-v02.api.letsencrypt.org/directory"
    assert settings["TLS_NAMES"].split()[0] == NAME
    assert server.endpoint.url == f"https://{NAME}:8000"
    record = properties(of, RECORD)
    assert (record["HostedZoneId"], record["Name"], record["Type"]) == (ZONE, f"{NAME}.", "CNAME")


def test_the_instance_may_change_the_challenges_record_and_no_other() -> None:
    [change] = allowed(made(ChromaTls.acme(**PUBLIC_NAME))[1], "route53:ChangeResourceRecordSets")
    assert json.dumps(change["Resource"]).endswith(f':route53:::hostedzone/{ZONE}"]]}}')
    change_of = "route53:ChangeResourceRecordSets"
    assert change["Condition"]["ForAllValues:StringEquals"] == {
        f"{change_of}NormalizedRecordNames": [f"_acme-challenge.{NAME}"],
        f"{change_of}RecordTypes": ["TXT"],
        f"{change_of}Actions": ["UPSERT", "DELETE"],
    }
    # Of a request without the keys, ForAllValues says that they are equal.
    assert change["Condition"]["Null"] == dict.fromkeys(
        change["Condition"]["ForAllValues:StringEquals"], "false"
    )


def test_another_authority_is_asked_with_its_binding() -> None:
    _, of = made(
        ChromaTls.acme(
            **PUBLIC_NAME,
            directory_url="https://ca.example.com/acme/directory",
            email="ops@example.com",
            external_account_binding=SecretArn.of(BINDING),
        )
    )
    settings = host_settings(of)
    assert settings["ACME_DIRECTORY"] == "https://ca.example.com/acme/directory"
    assert settings["ACME_EMAIL"] == "ops@example.com"
    assert settings["ACME_BINDING_SECRET"] == BINDING
    assert [it["Resource"] for it in allowed(of, "secretsmanager:GetSecretValue")].count(
        BINDING
    ) == 1


def test_the_context_says_the_same_as_the_construct() -> None:
    by_keys = template(
        domainName=NAME,
        hostedZoneId=ZONE,
        acmeDirectory="https://ca.example.com/acme",
        acmeEmail="ops@example.com",
        acmeBindingSecretArn=BINDING,
        tls="required",
    )
    _, of = made(
        ChromaTls.acme(
            **PUBLIC_NAME,
            directory_url="https://ca.example.com/acme",
            email="ops@example.com",
            external_account_binding=SecretArn.of(BINDING),
            mode=TlsMode.REQUIRED,
        )
    )
    names = ["TLS", "ACME_DIRECTORY", "ACME_EMAIL", "ACME_BINDING_SECRET", "TLS_SECRET"]
    by_construct, by_context = host_settings(of), host_settings(by_keys)
    assert [by_construct[name] for name in names] == [by_context[name] for name in names]


def test_a_private_server_gets_a_certificate_too() -> None:
    of = server_template(lambda _: {"tls": ChromaTls.acme(**PUBLIC_NAME)})
    record = properties(of, RECORD)
    assert (record["HostedZoneId"], record["Type"]) == (ZONE, "A")
    assert host_settings(of)["TLS_NAMES"].startswith(f"{NAME} ")


def test_the_record_may_be_in_another_zone_than_the_challenge() -> None:
    def split(stack: cdk.Stack) -> dict[str, Any]:
        private = route53.HostedZone.from_hosted_zone_attributes(
            stack, "Private", hosted_zone_id="ZPRIVATE", zone_name="example.com"
        )
        return {"hosted_zone": private, "tls": ChromaTls.acme(**PUBLIC_NAME)}

    of = server_template(split)
    assert properties(of, RECORD)["HostedZoneId"] == "ZPRIVATE"
    [change] = allowed(of, "route53:ChangeResourceRecordSets")
    assert ZONE in json.dumps(change["Resource"])


def test_two_names_for_one_server_are_refused() -> None:
    tls = ChromaTls.acme(**PUBLIC_NAME)
    made(tls, domain_name=NAME)
    with pytest.raises(SettingError, match=rf"^domain_name='other.example.com'.*{NAME}"):
        made(tls, domain_name="other.example.com")


def test_a_certificate_of_the_users_own_is_read_from_its_secret() -> None:
    server, of = made(ChromaTls.from_secret(SecretArn.of(CERTIFICATE), domain_name=NAME))
    assert host_settings(of)["TLS_SECRET"] == CERTIFICATE
    assert server.endpoint.url == f"https://{NAME}:8000"
    assert of.find_resources(RECORD) == {}
    resources = [it["Resource"] for it in allowed(of, "secretsmanager:GetSecretValue")]
    assert resources.count(CERTIFICATE) == 1


def test_a_secret_of_the_same_app_may_hold_the_certificate() -> None:
    def own(stack: cdk.Stack) -> dict[str, Any]:
        return {"tls": ChromaTls.from_secret(secretsmanager.Secret(stack, "Certificate"))}

    of = server_template(own)
    [secret] = [
        it
        for it in of.find_resources("AWS::SecretsManager::Secret")
        if it.startswith("Certificate")
    ]
    assert host_settings(of)["TLS_SECRET"] == f"<{secret}>"


def test_a_name_and_a_zone_beside_a_certificate_make_the_record_and_ask_no_authority() -> None:
    of = template(domainName=NAME, hostedZoneId=ZONE, tlsCertificateSecretArn=CERTIFICATE)
    assert host_settings(of)["ACME_DIRECTORY"] == ""
    assert properties(of, RECORD)["Name"] == f"{NAME}."
    assert "route53" not in json.dumps(statements(of))


def test_a_name_keeps_its_record_when_tls_is_off() -> None:
    of = template(domainName=NAME, hostedZoneId=ZONE, tls="off")
    assert properties(of, RECORD)["Name"] == f"{NAME}."
    assert host_settings(of)["ACME_DIRECTORY"] == ""
    assert "route53" not in json.dumps(statements(of))


def test_acm_issues_to_this_name_by_acme() -> None:
    server, of = made(ChromaTls.acm(**PUBLIC_NAME))
    [endpoint] = of.find_resources(f"{ACM}AcmeEndpoint")
    [binding] = of.find_resources(f"{ACM}AcmeExternalAccountBinding")
    settings = host_settings(of)
    assert settings["ACME_DIRECTORY"] == f"<{endpoint}.EndpointUrl>"
    assert settings["ACM_BINDING"] == f"<{binding}.AcmeExternalAccountBindingArn>"
    assert server.endpoint.url == f"https://{NAME}:8000"
    validation = properties(of, f"{ACM}AcmeDomainValidation")
    assert validation["DomainName"] == NAME
    assert validation["PrevalidationOptions"]["DnsPrevalidation"]["HostedZoneId"] == ZONE
    scope = validation["PrevalidationOptions"]["DnsPrevalidation"]["DomainScope"]
    assert scope == {"ExactDomain": "ENABLED", "Subdomains": "DISABLED", "Wildcards": "DISABLED"}


def test_the_instance_may_read_acms_binding_and_acm_alone_may_request() -> None:
    _, of = made(ChromaTls.acm(**PUBLIC_NAME))
    [binding] = of.find_resources(f"{ACM}AcmeExternalAccountBinding")
    [read] = allowed(of, "acm:GetAcmeExternalAccountBindingCredentials")
    assert read["Resource"] == {"Fn::GetAtt": [binding, "AcmeExternalAccountBindingArn"]}
    roles = of.find_resources("AWS::IAM::Role")
    [(issuance, role)] = [it for it in roles.items() if "acm-acme" in json.dumps(it[1])]
    trusted = role["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    assert {it["Principal"]["Service"] for it in trusted} == {"acm-acme.amazonaws.com"}
    actions = [it["Action"] for it in trusted]
    assert actions == ["sts:AssumeRole", ["sts:TagSession", "sts:SetSourceIdentity"]]
    given = properties(of, f"{ACM}AcmeExternalAccountBinding")["RoleArn"]
    assert given == {"Fn::GetAtt": [issuance, "Arn"]}
    [request] = allowed(of, "acm:RequestCertificate")
    assert request["Condition"]["ForAllValues:StringEquals"] == {"acm:DomainNames": [NAME]}
    assert request["Condition"]["StringEquals"] == {"acm:CertificateKeyPairOrigin": "ACME"}


def test_the_instance_starts_after_acm_validates_the_name() -> None:
    _, of = made(ChromaTls.acm(**PUBLIC_NAME))
    [validation] = of.find_resources(f"{ACM}AcmeDomainValidation")
    [group] = of.find_resources("AWS::AutoScaling::AutoScalingGroup").values()
    assert validation in group["DependsOn"]


def test_an_older_aws_cdk_lib_is_refused_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(certificatemanager, "CfnAcmeEndpoint")
    with pytest.raises(SettingError, match=r"^tls='acm'.*a later release of aws-cdk-lib"):
        ChromaTls.acm(**PUBLIC_NAME)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"hostedZoneId": ZONE}, f"hostedZoneId='{ZONE}'.*only together with domainName"),
        ({"acmeEmail": "ops@example.com", "domainName": NAME}, "acmeEmail=.*hostedZoneId"),
        (
            {"tls": "off", "tlsCertificateSecretArn": CERTIFICATE},
            "tlsCertificateSecretArn=.*only without tls=off",
        ),
        (
            {"tls": "off", "domainName": NAME, "hostedZoneId": ZONE, "acmeEmail": "a@example.com"},
            "acmeEmail='a@example.com'.*only without tls=off",
        ),
        (
            {
                "domainName": NAME,
                "hostedZoneId": ZONE,
                "tlsCertificateSecretArn": CERTIFICATE,
                "acmeBindingSecretArn": BINDING,
            },
            "acmeBindingSecretArn=.*only without tlsCertificateSecretArn",
        ),
        (
            {"auth": "token", "authSecretArn": BINDING, "tlsCertificateSecretArn": "certificate"},
            "tlsCertificateSecretArn='certificate'.*ARN",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused_under_their_keys(
    settings: dict[str, str], sentence: str
) -> None:
    with pytest.raises(SettingError, match=f"^{sentence}"):
        stack(**settings)


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"domain_name": "*.example.com"}, "domain_name"),
        ({"domain_name": "chroma"}, "domain_name"),
        ({"hosted_zone": "example.com"}, "hosted_zone"),
        ({"directory_url": "http://ca.example.com"}, "directory_url"),
        ({"email": "nobody"}, "email"),
        ({"mode": TlsMode.OFF}, "mode"),
    ],
)
def test_what_no_authority_could_issue_to_is_refused(changed: dict[str, Any], name: str) -> None:
    with pytest.raises(SettingError, match=rf"^{name}="):
        ChromaTls.acme(**{**PUBLIC_NAME, **changed})


def test_a_name_outside_the_zone_is_refused_where_the_zones_name_is_known() -> None:
    zone = route53.HostedZone.from_hosted_zone_attributes(
        cdk.Stack(cdk.App(), "Theirs"), "Zone", hosted_zone_id=ZONE, zone_name="example.com"
    )
    ChromaTls.acme(domain_name=NAME, hosted_zone=zone)
    with pytest.raises(SettingError, match=r"^domain_name=.*in the hosted zone, example.com"):
        ChromaTls.acme(domain_name="chroma.example.org", hosted_zone=zone)


def test_a_secret_in_another_partition_is_refused_under_its_own_name() -> None:
    arn = CERTIFICATE.replace("arn:aws:", "arn:aws-cn:").replace("eu-central-1", "cn-north-1")
    theirs = cdk.Stack(
        cdk.App(), "Theirs", env=cdk.Environment(account="123456789012", region="eu-central-1")
    )
    tls = ChromaTls.from_secret(SecretArn.of(arn))
    with pytest.raises(SettingError, match=r"^certificate_secret=.*the partition aws"):
        server_in(theirs, lambda _: {"tls": tls})
