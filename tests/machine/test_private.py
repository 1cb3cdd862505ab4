"""A server in another app, in a private subnet, with a configuration, commands and traces of theirs.

At its end, what becomes of one whose Chroma is stopped, hangs, or does not come back.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import grpc
import httpx
import pytest

from chroma_stack.emulator.cdk import Cdk
from chroma_stack.emulator.moto_server import MotoServer
from chroma_stack.emulator.rig import Rig
from tests.host.bedrock import Bedrock
from tests.host.collector import Collector
from tests.host.lambda_function import start_function
from tests.host.programs import wait_until

from .server import CHROMA_PROCESS, PATIENCE, TENANT, Server

TEAM = "a-team's-key"
COLLECTOR = "otel.rig.test"

APP = f"""\
import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from chroma_stack import ChromaServer, ChromaTracing

app = cdk.App()
stack = cdk.Stack(app, "Private", synthesizer=cdk.LegacyStackSynthesizer())
isolated = ec2.SubnetConfiguration(name="Isolated", subnet_type=ec2.SubnetType.PRIVATE_ISOLATED)
vpc = ec2.Vpc(stack, "Vpc", max_azs=1, subnet_configuration=[isolated])
server = ChromaServer(
    stack,
    "Chroma",
    vpc=vpc,
    tracing=ChromaTracing(
        endpoint="{COLLECTOR}:4317",
        service_name="theirs",
        headers={{"x-honeycomb-team": {TEAM!r}}},
    ),
    config={{"allow_reset": True}},
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
def collector(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """A collector outside the machine, with a certificate that the machine trusts."""
    folder = tmp_path_factory.mktemp("collector")
    rig.authority.server_context(folder, COLLECTOR)
    pair = ((folder / f"{COLLECTOR}.key").read_bytes(), (folder / f"{COLLECTOR}.crt").read_bytes())
    collector = Collector(grpc.ssl_server_credentials([pair]))
    yield collector
    collector.close()


@pytest.fixture(scope="module")
def server(rig: Rig, account: MotoServer, hostname: str, collector: Collector) -> Iterator[Server]:
    server = Server(rig, account, "Private")
    machine = server.boot(reachable={4317: collector.port})
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
    return {"X-Chroma-Token": server.credential}


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


def test_the_traces_of_clients_arrive_with_the_headers_of_the_secret(
    server: Server, collector: Collector
) -> None:
    server.use_with_token(batches=2)
    wait_until(collector.names, "spans arrive", PATIENCE)
    assert collector.services == {"theirs"}
    assert {headers["x-honeycomb-team"] for headers in collector.headers} == {TEAM}


def test_proxy_and_relay_cannot_read_what_the_other_holds(server: Server) -> None:
    users, capabilities = set(), set()
    for unit in ("chroma-proxy", "chroma-relay"):
        status = f"/proc/$(systemctl show --value --property=MainPID {unit})/status"
        found = server.machine.run(rf"grep -hE '^(Uid|Cap(Eff|Bnd)):' {status}").stdout
        user, *held = found.split("\n")
        users.add(user)
        capabilities |= {int(line.split()[1], 16) for line in held if line}
    assert len(users) == 2
    assert capabilities == {0}


def test_changed_headers_of_the_traces_are_taken_up(
    account: MotoServer, server: Server, collector: Collector, headers: dict[str, str]
) -> None:
    """Every ten minutes; here at once."""
    secret = server.settings["OTEL_HEADERS_SECRET"]
    account.client("secretsmanager").put_secret_value(
        SecretId=secret, SecretString="x-honeycomb-team=another-team"
    )
    assert server.machine.run("systemctl start chroma-relay-headers.service").returncode == 0
    collector.clear()
    assert server.status(headers) == 200
    wait_until(collector.names, "spans arrive with new headers", PATIENCE)
    assert {headers["x-honeycomb-team"] for headers in collector.headers} == {"another-team"}


def test_the_headers_of_the_traces_are_nowhere_on_the_instance(server: Server) -> None:
    for place in (
        "journalctl --no-pager --all --output=export",
        "cat /proc/[0-9]*/cmdline",
        "docker inspect chroma",
    ):
        output = server.machine.run(place).stdout
        assert output
        assert TEAM not in output
    assert TEAM not in server.machine.console + server.user_data


def test_the_commands_of_the_owner_were_run(server: Server) -> None:
    run = server.machine.run
    assert run("test -e /run/before").returncode == 0
    # The image is put beside the data first.
    wait_until(lambda: run("test -e /run/after").returncode == 0, "they ran", PATIENCE, every=0.5)


def test_in_maintenance_chroma_stays_stopped_and_clients_are_told_to_come_back(
    server: Server,
) -> None:
    run = server.machine.run
    assert "maintenance until" in run("chroma-maintenance on 30").stdout
    code, state = server.health()
    assert code == 1
    assert [it for it in state["problems"] if it.startswith("maintenance until")], state
    processes = "docker top chroma -eo pid | tail -n +2"
    is_busy = "touch /run/chroma-answered; . /opt/chroma/health-check; is_busy"
    run("docker exec --detach chroma timeout 120 sh -c 'while :; do :; done'")
    assert run(is_busy).returncode == 0, "it computes"
    run(f"kill -STOP $({processes})")
    assert run(is_busy).returncode != 0, "it is stopped"
    run(f"kill -CONT $({processes})")
    run("systemctl stop chroma.service")
    run("for n in 1 2 3 4 5 6; do HEALTH_CHECK_REPLACE=5 /opt/chroma/health-check; done")
    assert run("systemctl is-active chroma.service").stdout.strip() == "inactive"
    answer = httpx.get(f"{server.machine.url}/api/v2/heartbeat", timeout=120)
    assert answer.status_code == 503
    assert answer.headers["Retry-After"]
    assert "Chroma is not running" in answer.json()["message"]
    assert "no maintenance" in run("chroma-maintenance off").stdout
    server.wait_for_answer()
    server.use_with_token()


def test_a_server_that_hangs_is_started_again(server: Server) -> None:
    """It answers nothing, but does not end either. The one after it is left the time to start."""
    run = server.machine.run

    def process() -> int:
        return int(run(CHROMA_PROCESS).stdout.strip() or 0)

    run("/opt/chroma/health-check")  # it has seen an answer, so this is no start
    before = process()
    start = time.monotonic()
    since = run("kill -STOP $(docker top chroma -eo pid | tail -n +2); date +%s").stdout.strip()
    wait_until(lambda: process() not in (0, before), "it is another one", PATIENCE, every=0.5)
    another = process()
    # As its timer may at any moment.
    run("/opt/chroma/health-check")
    server.wait_for_answer()
    print(f"hung to answer: {time.monotonic() - start:.0f} s")
    server.use_with_token()
    assert process() == another, "it was ended while it started"

    # From start to start: were the pause counted from the end of a check, each would have all of it.
    lines = run(
        f"journalctl --unit chroma-health-check --since @{since} --output short-unix"
        " | grep -E 'Starting|Finished'"
    ).stdout.splitlines()
    pairs = itertools.pairwise(lines)
    pauses = [
        float(start.split()[0]) - float(end.split()[0])
        for end, start in pairs
        if "Finished" in end and "Starting" in start
    ]
    print(f"pauses between checks: {pauses}")
    assert min(pauses) < 15


def test_an_instance_on_which_nothing_helps_asks_to_be_replaced(rig: Rig, server: Server) -> None:
    server.set_for("chroma-health-check", "HEALTH_CHECK_REPLACE=1")
    server.machine.run("systemctl stop chroma.service")
    key = server.machine.access_key
    wait_until(lambda: rig.aws.calls_of("SetInstanceHealth", key), "it asks", PATIENCE)
    [call, *_] = rig.aws.calls_of("SetInstanceHealth", key)
    assert call.parameters["InstanceId"] == server.machine.instance_id
    assert call.parameters["HealthStatus"] == "Unhealthy"
