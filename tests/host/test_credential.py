"""The way of the credential from Secrets Manager to the proxy: `credential` and `self-test` as they stand."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.host.programs import HOST
from tests.host.proxy import BASIC, TOKEN, Proxy
from tests.host.recorder import Recorder

GUARDED = "/api/v2/tenants/default_tenant"
OLD = 3600

AWS = f"""#!{sys.executable} -IS
{Path(__file__).with_name("secrets_manager.py").read_text()}"""


class Secret:
    """A secret of the account that a proxy's instance asks, as the command line `aws` shows it: the
    main credential, if no other name is given."""

    def __init__(self, proxy: Proxy, name: str = "chroma") -> None:
        self.account = proxy.folder / "secrets"
        self.arn = f"arn:aws:secretsmanager:eu-west-1:123456789012:secret:{name}-AbCdEf"
        self.folder = self.account / f"{name}-AbCdEf"
        self.folder.mkdir(parents=True)
        aws = proxy.folder / "bin" / "aws"
        if not aws.exists():
            aws.parent.mkdir()
            aws.write_text(AWS)
            aws.chmod(0o755)
            proxy.environment["SECRETS"] = str(self.account)
            proxy.environment["PATH"] = f"{aws.parent}:{os.environ['PATH']}"

    def put(self, value: str, *, stage: str = "AWSCURRENT", age: float = OLD) -> None:
        made = time.strftime("%Y-%m-%dT%H:%M:%S.123000+00:00", time.gmtime(time.time() - age))
        self.answer({"SecretString": value, "CreatedDate": made}, stage)

    def rotate(self, value: str, *, age: float = 0) -> None:
        (self.folder / "AWSCURRENT").rename(self.folder / "AWSPREVIOUS")
        self.put(value, age=age)

    def answer(self, fields: dict[str, str], stage: str = "AWSCURRENT") -> None:
        """Has Secrets Manager answer with these fields, as another version."""
        new = self.folder / f"{stage}.new"
        new.write_text(json.dumps({"VersionId": str(uuid.uuid4()), **fields}))
        new.replace(self.folder / stage)

    def fails(
        self, error: str = "AccessDeniedException", *, alone: bool = True, stage: str = ""
    ) -> None:
        """Has it not be read; or only not together with others; or only one stage of it not, alone."""
        file = f"{stage}.error" if stage else "error" if alone else "error-in-batch"
        (self.folder / file).write_text(error)

    def works(self) -> None:
        for name in ("error", "error-in-batch"):
            (self.folder / name).unlink(missing_ok=True)

    def remove(self) -> None:
        (self.folder / "AWSCURRENT").unlink()

    def calls(self) -> list[str]:
        """Of the command line, for all secrets."""
        file = self.account / "calls"
        return file.read_text().splitlines() if file.exists() else []


def write_settings(proxy: Proxy) -> None:
    settings = Path(proxy.environment["SETTINGS"])
    text = "".join(f"{name}={value}\n" for name, value in proxy.settings.items())
    if not settings.exists() or settings.read_text() != text:
        settings.write_text(text)


def run(proxy: Proxy, script: str) -> subprocess.CompletedProcess[str]:
    """Runs a host script on the proxy's instance, whose settings do not change meanwhile."""
    write_settings(proxy)
    return subprocess.run(
        [str(HOST / script)], env=proxy.environment, capture_output=True, text=True, timeout=120
    )


@pytest.fixture
def proxy(recorder: Recorder, make_proxy: Callable[..., Proxy]) -> Proxy:
    return make_proxy(recorder.address)


@pytest.fixture
def secret(proxy: Proxy) -> Secret:
    secret = Secret(proxy)
    secret.put(proxy.credential)
    return secret


def accepted(proxy: Proxy) -> list[str]:
    """What the proxy's file says, without the digests: of each value the user and the access."""
    lines = proxy.credentials.read_text().splitlines()
    return [line.split()[1] for line in lines if not line.startswith("#")]


def accepts(proxy: Proxy, credential: str) -> bool:
    [(name, value)] = proxy.right.items()
    value = value.replace(proxy.credential, credential)
    return proxy.get(GUARDED, {name: value}).status_code == 200


@pytest.mark.parametrize(
    ("auth", "token_header", "credential"),
    [
        ("token", "Authorization", TOKEN),
        ("token", "Authorization", "test-token"),
        ("token", "Authorization", "%s%n\\n\\x41$(id)`id`"),
        ("token", "X-Chroma-Token", TOKEN),
        ("token", "X-Chroma-Token", "#;'"),
        ("basic", "Authorization", BASIC),
        ("basic", "Authorization", "user:" + "long" * 500),
    ],
)
def test_the_proxy_accepts_what_the_secret_says(
    recorder: Recorder,
    make_proxy: Callable[..., Proxy],
    auth: str,
    token_header: str,
    credential: str,
) -> None:
    proxy = make_proxy(
        recorder.address, auth=auth, token_header=token_header, credential=credential
    )
    Secret(proxy).put(credential)
    taken = run(proxy, "credential")
    assert (taken.returncode, taken.stderr) == (0, "")
    proxy.start()
    assert proxy.get(GUARDED, proxy.right).status_code == 200
    assert proxy.get(GUARDED, proxy.wrong).status_code == 401
    tested = run(proxy, "self-test")
    assert (tested.returncode, tested.stderr) == (0, "")


def test_a_newline_at_the_end_of_the_secret_does_no_harm(proxy: Proxy, secret: Secret) -> None:
    secret.put("test-token\n")
    assert run(proxy, "credential").returncode == 0
    proxy.credential = "test-token"
    assert proxy.start().get(GUARDED, proxy.right).status_code == 200


TOKENS_REFUSED = {
    "empty": "",
    "a space": "two words",
    "a space at the end": "token ",
    "a tab": "to\tken",
    "two lines": "to\nken",
    "a carriage return": "token\r",
    "another letter": "tökén",
    "a control character": "to\x07ken",
}


@pytest.mark.parametrize("value", TOKENS_REFUSED.values(), ids=TOKENS_REFUSED)
def test_at_boot_a_token_that_no_client_can_send_is_refused(
    proxy: Proxy, secret: Secret, value: str
) -> None:
    secret.put(value)
    taken = run(proxy, "credential")
    assert taken.returncode == 1
    assert "ASCII letters, digits and punctuation" in taken.stderr or "is empty" in taken.stderr
    assert value == "" or value not in taken.stderr
    assert not proxy.credentials.exists()


@pytest.mark.parametrize("value", ["user", "user:", ":password", "us er:password", ":"])
def test_at_boot_a_basic_credential_must_be_user_and_password(
    proxy: Proxy, secret: Secret, value: str
) -> None:
    proxy.settings["AUTH"] = "basic"
    secret.put(value)
    taken = run(proxy, "credential")
    assert taken.returncode == 1
    assert "user:password" in taken.stderr or "no spaces" in taken.stderr
    assert not proxy.credentials.exists()


def test_at_boot_a_secret_without_a_string_is_refused(proxy: Proxy, secret: Secret) -> None:
    secret.answer({"CreatedDate": "2026-01-01T00:00:00+00:00", "SecretBinary": "YQ=="})
    taken = run(proxy, "credential")
    assert taken.returncode == 1
    assert "no plain string" in taken.stderr
    assert not proxy.credentials.exists()


def test_a_secret_of_another_region_is_asked_for_there(proxy: Proxy, secret: Secret) -> None:
    proxy.settings["REGION"] = "us-east-1"
    assert run(proxy, "credential").returncode == 0
    assert "--region eu-west-1 " in secret.calls()[0]


@pytest.mark.parametrize("value", ['{"token":"abc123"}', '{\n  "password": "abc 123"\n}'])
def test_at_boot_json_as_the_console_stores_it_is_refused_with_what_to_store(
    proxy: Proxy, secret: Secret, value: str
) -> None:
    secret.put(value)
    taken = run(proxy, "credential")
    assert taken.returncode == 1
    assert "store the credential itself as plaintext" in taken.stderr
    assert "abc" not in taken.stderr


def test_at_boot_a_missing_secret_is_refused(proxy: Proxy, secret: Secret) -> None:
    secret.remove()
    taken = run(proxy, "credential")
    assert taken.returncode == 1
    assert f"the secret {proxy.settings['AUTH_SECRET']} cannot be read" in taken.stderr
    assert not proxy.credentials.exists()


def test_without_authentication_no_secret_is_needed(proxy: Proxy, secret: Secret) -> None:
    proxy.settings["AUTH"] = "none"
    assert run(proxy, "credential").returncode == 0
    assert secret.calls() == []
    proxy.start()
    assert run(proxy, "self-test").returncode == 0


def test_a_changed_secret_is_taken_up_by_the_running_proxy(proxy: Proxy, secret: Secret) -> None:
    run(proxy, "credential")
    proxy.start()
    secret.rotate("another-token")
    taken = run(proxy, "credential")
    assert taken.returncode == 0, taken.stderr
    assert "accepts 2 value(s)" in taken.stdout
    assert accepts(proxy, "another-token")
    assert accepts(proxy, proxy.credential)


def test_the_previous_value_is_dropped_after_15_minutes(proxy: Proxy, secret: Secret) -> None:
    run(proxy, "credential")
    proxy.start()
    secret.rotate("another-token", age=14 * 60)
    run(proxy, "credential")
    assert accepts(proxy, proxy.credential)
    secret.put("another-token", age=15 * 60)
    run(proxy, "credential")
    assert accepts(proxy, "another-token")
    assert not accepts(proxy, proxy.credential)


def test_a_proxy_that_starts_later_accepts_the_same(proxy: Proxy, secret: Secret) -> None:
    run(proxy, "credential")
    proxy.start()
    secret.rotate("another-token")
    run(proxy, "credential")
    proxy.stop()
    proxy.start()
    assert accepts(proxy, "another-token")
    assert accepts(proxy, proxy.credential)


@pytest.mark.parametrize("previous", [None, "two words"])
def test_a_previous_value_that_is_of_no_use_is_left_out(
    proxy: Proxy, secret: Secret, previous: str | None
) -> None:
    secret.put(proxy.credential, age=10)
    if previous:
        secret.put(previous, stage="AWSPREVIOUS")
    taken = run(proxy, "credential")
    assert (taken.returncode, taken.stderr) == (0, "")
    assert len(accepted(proxy)) == 1


def test_in_the_steady_state_secrets_manager_is_asked_once(proxy: Proxy, secret: Secret) -> None:
    run(proxy, "credential")
    proxy.start()
    before = len(secret.calls())
    taken = run(proxy, "credential")
    assert (taken.stdout, taken.stderr) == ("", "")
    assert len(secret.calls()) - before == 1


@pytest.mark.parametrize("value", [None, *TOKENS_REFUSED.values()], ids=["gone", *TOKENS_REFUSED])
def test_when_the_secret_breaks_the_proxy_keeps_the_last_good_one(
    proxy: Proxy, secret: Secret, value: str | None
) -> None:
    run(proxy, "credential")
    proxy.start()
    if value is None:
        secret.remove()
    else:
        secret.put(value)
    taken = run(proxy, "credential")
    assert taken.returncode == 1
    assert "keeps the last good one" in taken.stderr
    assert accepts(proxy, proxy.credential)
    proxy.stop()
    proxy.start()
    assert accepts(proxy, proxy.credential)


def test_a_proxy_without_credentials_lets_nobody_in(proxy: Proxy) -> None:
    proxy.accept()
    proxy.start()
    assert proxy.get(GUARDED).status_code == 401
    assert proxy.get(GUARDED, proxy.right).status_code == 401
    assert proxy.get("/api/v2/heartbeat").status_code == 200


def test_the_file_of_digests_is_for_root_and_haproxy_only(proxy: Proxy, secret: Secret) -> None:
    run(proxy, "credential")
    assert stat.S_IMODE(proxy.credentials.stat().st_mode) == 0o640
    proxy.start()
    assert stat.S_IMODE(proxy.admin_socket.stat().st_mode) == 0o600


def test_the_credential_is_in_no_file_argument_environment_or_log(
    proxy: Proxy, secret: Secret
) -> None:
    programs = ["aws", "curl"]
    spied = proxy.folder / "spied"
    watchers = proxy.folder / "watchers"
    watchers.mkdir()
    for name in programs:
        watcher = watchers / name
        watcher.write_text(
            '#!/bin/bash\n{ printf "%s\\n" "$0" "$@"; env; } >>"$SPIED"\n'
            'PATH=${PATH#*:} exec "${0##*/}" "$@"\n'
        )
        watcher.chmod(0o755)
    proxy.environment["SPIED"] = str(spied)
    proxy.environment["PATH"] = f"{watchers}:{proxy.environment['PATH']}"

    proxy.auth = proxy.settings["AUTH"] = "basic"
    proxy.credential = "somebody:open-sesame"
    secret.put(proxy.credential)
    assert run(proxy, "credential").returncode == 0
    proxy.start()
    tested = run(proxy, "self-test")
    assert tested.returncode == 0, tested.stderr
    assert proxy.get(GUARDED, proxy.right).status_code == 200
    secret.rotate("somebody:else")
    taken = run(proxy, "credential")
    assert taken.returncode == 0

    assert "get-secret-value" in spied.read_text()
    assert "curl" in spied.read_text()
    [encoded] = [value.split()[1] for value in proxy.right.values()]
    for path in proxy.folder.rglob("*"):
        if path.is_file() and secret.account not in path.parents:
            content = path.read_text()
            assert "open-sesame" not in content, path
            assert encoded not in content, path
    for output in (tested, taken):
        assert "open-sesame" not in output.stdout + output.stderr


def test_the_self_test_fails_when_an_unauthenticated_request_is_served(
    proxy: Proxy, secret: Secret
) -> None:
    run(proxy, "credential")
    guarded = dict(proxy.settings)
    proxy.settings["AUTH"] = "none"
    proxy.start()
    proxy.settings = guarded
    tested = run(proxy, "self-test")
    assert tested.returncode == 1
    assert "a request without a credential is not refused" in tested.stderr


def test_the_self_test_fails_when_the_right_credential_is_refused(
    proxy: Proxy, secret: Secret
) -> None:
    run(proxy, "credential")
    proxy.start()
    secret.put("another-token")
    tested = run(proxy, "self-test")
    assert tested.returncode == 1
    assert "a client with the credential is not served" in tested.stderr


def test_the_self_test_fails_when_nothing_answers(proxy: Proxy, secret: Secret) -> None:
    tested = run(proxy, "self-test")
    assert tested.returncode == 1
    assert "the heartbeat is not served" in tested.stderr
