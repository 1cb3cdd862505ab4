"""A server whose certificate ACM issues: its resources are made in an order in which each finds what it needs."""

from __future__ import annotations

from chroma_stack.emulator.cdk import Cdk
from chroma_stack.emulator.moto_handlers import (
    AcmeDomainValidation,
    AcmeEndpoint,
    AcmeExternalAccountBinding,
)
from chroma_stack.emulator.moto_server import MotoServer

APP = """\
import aws_cdk as cdk
from chroma_stack import ChromaStack, ChromaTls

app = cdk.App()
ChromaStack(
    app, "Named", tls=ChromaTls.acm(domain_name="chroma.example.com", hosted_zone="ZONE")
)
app.synth()
"""


def test_an_endpoint_a_validated_name_and_a_binding_are_made_and_removed(
    aws: MotoServer, cdk: Cdk
) -> None:
    zones = aws.client("route53")
    zone = zones.create_hosted_zone(Name="example.com", CallerReference="acm")["HostedZone"]["Id"]
    zone_id = zone.rpartition("/")[2]
    (cdk.directory / "named.py").write_text(APP.replace("ZONE", zone_id))
    app = ".venv/bin/python named.py"
    outputs = cdk.deploy(app=app)
    assert outputs["ServerUrl"] == "https://chroma.example.com:8000"
    [endpoint] = AcmeEndpoint.made
    [validation] = AcmeDomainValidation.made.values()
    [(arn, binding)] = AcmeExternalAccountBinding.made.items()
    assert validation["AcmeEndpointArn"] == binding["AcmeEndpointArn"] == endpoint
    assert validation["PrevalidationOptions"]["DnsPrevalidation"]["HostedZoneId"] == zone_id
    assert f"ACM_BINDING={arn}" in aws.launched_user_data("Named").splitlines()
    roles = [it["Arn"] for it in aws.client("iam").list_roles()["Roles"]]
    assert binding["RoleArn"] in roles
    cdk.destroy(app=app)
    assert AcmeEndpoint.made == AcmeExternalAccountBinding.made == {}
