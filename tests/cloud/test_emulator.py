"""The emulator's deployments: from whatever folder, and nothing is left of one that was interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from chroma_stack.emulator import web
from chroma_stack.emulator.aws import Aws
from chroma_stack.emulator.cdk import Cdk
from chroma_stack.emulator.imds import InstanceMetadata
from chroma_stack.emulator.moto_server import MotoServer
from chroma_stack.emulator.requirements import PROGRAMS
from tests.host.programs import processes_of, wait_until

ROOT = Path(__file__).parents[2]
PATIENCE = 300


def test_the_app_is_found_in_a_folder_that_is_not_the_packages(
    cdk_program: None, aws: MotoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    template = Cdk(tmp_path, aws.environment).synth({"auth": "basic"})
    assert template["Resources"]


@pytest.fixture(scope="module")
def guarded() -> Iterator[MotoServer]:
    """An account as the command makes it, with a secret."""
    with MotoServer(guarded=True) as account:
        account.client("secretsmanager").create_secret(Name="credential", SecretString="value")
        yield account


def asked(account: MotoServer, **headers: str) -> int:
    """The status of a request for the secret, as whoever finds the port can make it."""
    return httpx.post(
        account.endpoint,
        headers={
            "X-Amz-Target": "secretsmanager.GetSecretValue",
            "Content-Type": "application/x-amz-json-1.1",
            **headers,
        },
        json={"SecretId": "credential"},
    ).status_code


def signed(key: str) -> str:
    """A header of Signature Version 4; moto does not check the signature."""
    return (
        f"AWS4-HMAC-SHA256 Credential={key}/20260101/us-east-1/secretsmanager/aws4_request, "
        "SignedHeaders=host, Signature=0"
    )


def test_the_account_tells_the_credential_to_who_knows_its_key_alone(guarded: MotoServer) -> None:
    assert asked(guarded, authorization=signed(guarded.access_key)) == 200
    assert asked(guarded, authorization=signed(guarded.new_access_key())) == 200
    assert asked(guarded, authorization=signed("testing")) == 403
    assert asked(guarded) == 403
    data = httpx.get(f"{guarded.endpoint}/moto-api/data.json")
    assert data.status_code == 403


def test_it_tells_no_page_of_a_browser(guarded: MotoServer) -> None:
    key = signed(guarded.access_key)
    assert asked(guarded, authorization=key, origin="https://example.com") == 403


def test_so_does_what_stands_before_it_for_machines(guarded: MotoServer) -> None:
    front = Aws(guarded)
    try:
        url = f"http://127.0.0.1:{front.port}"
        form = {"Action": "SetInstanceHealth", "InstanceId": "i-1"}
        refused = httpx.post(url, data=form, headers={"Authorization": signed("testing")})
        assert refused.status_code == 403
        assert front.calls == []
        httpx.post(url, data=form, headers={"Authorization": signed(guarded.access_key)})
        assert len(front.calls) == 1
    finally:
        front.close()


def test_the_metadata_service_tells_no_page_of_a_browser_and_no_other_user(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    metadata = InstanceMetadata("i-1", "us-east-1", "")
    url = f"http://127.0.0.1:{metadata.port}/latest/api/token"
    headers = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
    try:
        assert httpx.put(url, headers=headers).status_code == 200
        page = headers | {"Origin": "https://example.com"}
        assert httpx.put(url, headers=page).status_code == 403
        monkeypatch.setattr(web, "_owner", lambda *_: os.geteuid() + 1)
        with pytest.raises(httpx.TransportError):
            httpx.put(url, headers=headers)
    finally:
        metadata.close()


def test_nothing_is_left_of_an_emulator_that_is_interrupted_while_it_deploys(
    cdk_program: None, tmp_path: Path
) -> None:
    """The programs of a machine need not be there: one that does nothing stands in for them. The account is reached past a
    proxy that is named and not there."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in PROGRAMS:
        (programs / name).symlink_to("/bin/true")
    data = tmp_path / "data"
    process = subprocess.Popen(
        [sys.executable, "-m", "chroma_stack.emulator", "--data", str(data), "--json"],
        cwd=ROOT,
        env=os.environ
        | {"PATH": f"{os.environ['PATH']}:{programs}"}
        | {"HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    while json.loads(process.stdout.readline())["stage"] != "deploy":
        pass
    app = "-m chroma_stack.emulator.app"
    wait_until(lambda: any(app in it for it in processes_of(data)), "the app runs", PATIENCE)
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 130
    assert processes_of(data) == []
    assert not (data / "run").exists()
