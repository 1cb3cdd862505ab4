"""The published template, by the commands of Chroma's documentation: token, header and traces."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest

from chroma_stack import published_template
from tests.cloud.moto_server import MotoServer
from tests.host.collector import Collector
from tests.host.programs import wait_until

from .rig import Rig
from .server import PATIENCE, Server

TEAM = "a-team's-key"
NAME = "otel.rig.test"


@pytest.fixture(scope="module")
def collector(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """A collector outside the machine, with a certificate that the machine trusts."""
    folder = tmp_path_factory.mktemp("collector")
    rig.authority.server_context(folder, NAME)
    pair = ((folder / f"{NAME}.key").read_bytes(), (folder / f"{NAME}.crt").read_bytes())
    collector = Collector(grpc.ssl_server_credentials([pair]))
    yield collector
    collector.close()


def test_the_documented_commands_bring_a_server_with_its_token_and_its_traces(
    rig: Rig, account: MotoServer, collector: Collector
) -> None:
    s3 = account.client("s3")
    s3.create_bucket(Bucket="templates")
    s3.put_object(Bucket="templates", Key=published_template.NAME, Body=published_template.text())
    parameters = {
        "ChromaServerAuthCredentials": "test-token",
        "ChromaServerAuthProvider": "chromadb.auth.token_authn.TokenAuthenticationServerProvider",
        "ChromaAuthTokenTransportHeader": "X-Chroma-Token",
        "ChromaOtelCollectionEndpoint": NAME,
        "ChromaOtelServiceName": "chromadb",
        "ChromaOtelCollectionHeaders": repr({"x-honeycomb-team": TEAM}),
        "ChromaOtelGranularity": "all",
    }
    account.client("cloudformation").create_stack(
        StackName="my-chroma-stack",
        TemplateURL=f"{account.endpoint}/templates/{published_template.NAME}",
        Capabilities=["CAPABILITY_IAM"],
        Parameters=[
            {"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()
        ],
    )
    server = Server(rig, account, "my-chroma-stack")
    # The name stands for this computer inside the machine, which has the registry at 443.
    user_data = server.user_data.replace(
        f"\nOTEL_ENDPOINT={NAME}\n", f"\nOTEL_ENDPOINT={NAME}:4317\n"
    )
    machine = server.boot(user_data, reachable={4317: collector.port})
    try:
        signal = machine.wait_for_signal()
        assert signal.status == "SUCCESS", machine.console[-6000:]
        assert server.status({"Authorization": "Bearer test-token"}) == 200
        assert server.status({"Authorization": "Bearer another"}) == 401
        assert server.settings["AUTH_TOKEN_HEADER"] == "X-Chroma-Token"
        server.use(
            50,
            provider="token_authn.TokenAuthClientProvider",
            credential="test-token",
            header="X-Chroma-Token",
        )
        wait_until(collector.names, "spans arrive", PATIENCE)
        assert collector.services == {"chromadb"}
        assert {headers["x-honeycomb-team"] for headers in collector.headers} == {TEAM}
        # Each on its own: neither can read what the other holds.
        users, capabilities = set(), set()
        for unit in ("chroma-proxy", "chroma-relay"):
            status = f"/proc/$(systemctl show --value --property=MainPID {unit})/status"
            user, *held = machine.run(rf"grep -hE '^(Uid|Cap(Eff|Bnd)):' {status}").stdout.split(
                "\n"
            )
            users.add(user)
            capabilities |= {int(line.split()[1], 16) for line in held if line}
        assert len(users) == 2
        assert capabilities == {0}
        # Changed headers are taken up every ten minutes; here at once.
        account.client("secretsmanager").put_secret_value(
            SecretId=server.settings["OTEL_HEADERS_SECRET"],
            SecretString="x-honeycomb-team=another-team",
        )
        assert machine.run("systemctl start chroma-relay-headers.service").returncode == 0
        collector.clear()
        server.status({"X-Chroma-Token": "test-token"})
        wait_until(collector.names, "spans arrive with new headers", PATIENCE)
        assert {headers["x-honeycomb-team"] for headers in collector.headers} == {"another-team"}
        for place in (
            "journalctl --no-pager --all --output=export",
            "cat /proc/[0-9]*/cmdline",
            "docker inspect chroma",
        ):
            output = machine.run(place).stdout
            assert output
            assert TEAM not in output
        assert TEAM not in machine.console + user_data
    finally:
        machine.terminate()
