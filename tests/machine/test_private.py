"""A server in another app, in a private subnet, with a configuration and commands of theirs."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.cloud.cdk import Cdk
from tests.cloud.moto_server import MotoServer
from tests.host.bedrock import Bedrock
from tests.host.lambda_function import start_function
from tests.host.programs import wait_until

from .rig import Rig
from .server import PATIENCE, TENANT, Server

APP = """\
import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from chroma_stack import ChromaServer

app = cdk.App()
stack = cdk.Stack(app, "Private", synthesizer=cdk.LegacyStackSynthesizer())
isolated = ec2.SubnetConfiguration(name="Isolated", subnet_type=ec2.SubnetType.PRIVATE_ISOLATED)
vpc = ec2.Vpc(stack, "Vpc", max_azs=1, subnet_configuration=[isolated])
server = ChromaServer(
    stack,
    "Chroma",
    vpc=vpc,
    config={"allow_reset": True},
    user_data_before=["touch /run/before"],
    user_data_after=["touch /run/after"],
)
cdk.CfnOutput(stack, "Hostname", value=server.endpoint.hostname)
app.synth()
"""


@pytest.fixture(scope="module")
def hostname(cdk: Cdk) -> str:
    (cdk.directory / "private.py").write_text(APP)
    return cdk.deploy(app=".venv/bin/python private.py")["Hostname"]


@pytest.fixture(scope="module")
def server(rig: Rig, account: MotoServer, hostname: str) -> Iterator[Server]:
    server = Server(rig, account, "Private")
    machine = server.boot()
    signal = machine.wait_for_signal()
    assert signal.status == "SUCCESS", machine.console[-6000:]
    yield server
    machine.terminate()


@pytest.fixture
def bedrock() -> Iterator[Bedrock]:
    bedrock = Bedrock()
    yield bedrock
    bedrock.close()


@pytest.fixture(scope="module")
def headers(server: Server) -> dict[str, str]:
    return {"Authorization": f"Bearer {server.credential}"}


def test_the_name_leads_to_the_interface_that_the_machine_took(
    rig: Rig, account: MotoServer, server: Server, hostname: str
) -> None:
    key = server.machine.access_key
    [taken] = rig.aws.calls_of("AttachNetworkInterface", key)
    assert taken.parameters["NetworkInterfaceId"] == server.settings["ADDRESS"]
    assert rig.aws.calls_of("AssociateAddress", key) == []
    route53 = account.client("route53")
    zone = account.physical_id("Private", "AWS::Route53::HostedZone")
    found = route53.list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"]
    [record] = [it for it in found if it["Type"] == "A"]
    assert record["Name"].rstrip(".") == hostname
    assert record["ResourceRecords"] == [{"Value": server.settings["PRIVATE_ADDRESS"]}]


def test_clients_come_in_by_that_interface_with_the_credential_only(
    server: Server, headers: dict[str, str]
) -> None:
    proxy = f"{server.machine.private_url}/api/v2"
    assert httpx.get(f"{proxy}/heartbeat", timeout=120).status_code == 200
    assert httpx.get(f"{proxy}{TENANT}", timeout=120).status_code == 401
    assert httpx.get(f"{proxy}{TENANT}", headers=headers, timeout=120).status_code == 200


def test_chroma_obeys_the_configuration_that_was_given(
    server: Server, headers: dict[str, str]
) -> None:
    url = f"{server.machine.private_url}/api/v2/reset"
    assert httpx.post(url, headers=headers, timeout=120).status_code == 200


def test_the_function_of_the_first_example_answers_from_this_server(
    account: MotoServer, server: Server, bedrock: Bedrock, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, secret = server.machine.private_url, server.settings["AUTH_SECRET"]
    function = start_function(monkeypatch, account, bedrock, url, secret)
    documents = [{"id": "opening", "text": "The shop opens at nine and closes at six."}]
    assert function.handler({"add": documents}, None)["added"] == 1
    given = function.handler({"question": "When does the shop open?"}, None)
    assert [source["id"] for source in given["sources"]] == ["opening"]
    assert documents[0]["text"] in given["answer"]


def test_the_commands_of_the_owner_were_run(server: Server) -> None:
    run = server.machine.run
    assert run("test -e /run/before").returncode == 0
    # The image is put beside the data first.
    wait_until(lambda: run("test -e /run/after").returncode == 0, "they ran", PATIENCE, every=0.5)
