"""The way of the credential from Secrets Manager to the door: `credential` and `prove` as they stand."""

from __future__ import annotations

import os
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.host.door import BASIC, TOKEN, Door
from tests.host.programs import HOST
from tests.host.recorder import Recorder

GUARDED = "/api/v2/tenants/default_tenant"
OLD = 3600

AWS = """#!/bin/bash
# Secrets Manager as these tests need it: prints what the file of the asked version stage holds.
echo "$*" >>"$SECRETS/calls"
[[ "$1 $2" == 'secretsmanager get-secret-value' ]] || exit 2
while [[ $1 != --version-stage ]]; do shift; done
[[ -f $SECRETS/$2 ]] || { echo "ResourceNotFoundException: $2" >&2; exit 254; }
cat "$SECRETS/$2"
"""


class Secret:
    """The secret of a door's machine, as the command line `aws` shows it."""

    def __init__(self, door: Door) -> None:
        self.folder = door.folder / "secrets"
        bin_folder = door.folder / "bin"
        for folder in (self.folder, bin_folder):
            folder.mkdir()
        aws = bin_folder / "aws"
        aws.write_text(AWS)
        aws.chmod(0o755)
        door.environment["SECRETS"] = str(self.folder)
        door.environment["PATH"] = f"{bin_folder}:{os.environ['PATH']}"

    def put(self, value: str, *, stage: str = "AWSCURRENT", age: float = OLD) -> None:
        made = time.strftime("%Y-%m-%dT%H:%M:%S.123000+00:00", time.gmtime(time.time() - age))
        self.answer(f"{made}\tstring\t{value}\n", stage)

    def rotate(self, value: str, *, age: float = 0) -> None:
        (self.folder / "AWSCURRENT").rename(self.folder / "AWSPREVIOUS")
        self.put(value, age=age)

    def answer(self, text: str, stage: str = "AWSCURRENT") -> None:
        (self.folder / stage).write_text(text)

    def calls(self) -> list[str]:
        return (self.folder / "calls").read_text().splitlines()


def run(door: Door, script: str) -> subprocess.CompletedProcess[str]:
    """Runs a host script on the door's machine."""
    lines = [f"{name}={value}\n" for name, value in door.settings.items()]
    Path(door.environment["SETTINGS"]).write_text("".join(lines))
    return subprocess.run(
        [str(HOST / script)], env=door.environment, capture_output=True, text=True, timeout=120
    )


@pytest.fixture
def door(recorder: Recorder, make_door: Callable[..., Door]) -> Door:
    return make_door(recorder.address)


@pytest.fixture
def secret(door: Door) -> Secret:
    secret = Secret(door)
    secret.put(door.credential)
    return secret


def accepts(door: Door, credential: str) -> bool:
    [(name, value)] = door.right.items()
    value = value.replace(door.credential, credential)
    return door.get(GUARDED, {name: value}).status_code == 200


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
def test_the_door_accepts_what_the_secret_says(
    recorder: Recorder,
    make_door: Callable[..., Door],
    auth: str,
    token_header: str,
    credential: str,
) -> None:
    door = make_door(recorder.address, auth=auth, token_header=token_header, credential=credential)
    Secret(door).put(credential)
    taken = run(door, "credential")
    assert (taken.returncode, taken.stderr) == (0, "")
    door.start()
    assert door.get(GUARDED, door.right).status_code == 200
    assert door.get(GUARDED, door.wrong).status_code == 401
    proven = run(door, "prove")
    assert (proven.returncode, proven.stderr) == (0, "")


def test_a_newline_at_the_end_of_the_secret_does_no_harm(door: Door, secret: Secret) -> None:
    secret.put("test-token\n")
    assert run(door, "credential").returncode == 0
    door.credential = "test-token"
    assert door.start().get(GUARDED, door.right).status_code == 200


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
    door: Door, secret: Secret, value: str
) -> None:
    secret.put(value)
    taken = run(door, "credential")
    assert taken.returncode == 1
    assert "ASCII letters, digits and punctuation" in taken.stderr or "is empty" in taken.stderr
    assert value == "" or value not in taken.stderr
    assert not door.credentials.exists()


@pytest.mark.parametrize("value", ["user", "user:", ":password", "us er:password", ":"])
def test_at_boot_a_basic_credential_must_be_user_and_password(
    door: Door, secret: Secret, value: str
) -> None:
    door.settings["AUTH"] = "basic"
    secret.put(value)
    taken = run(door, "credential")
    assert taken.returncode == 1
    assert "user:password" in taken.stderr or "no spaces" in taken.stderr
    assert not door.credentials.exists()


def test_at_boot_a_secret_without_a_string_is_refused(door: Door, secret: Secret) -> None:
    secret.answer("2026-01-01T00:00:00+00:00\tnull\tNone\n")
    taken = run(door, "credential")
    assert taken.returncode == 1
    assert "no plain string" in taken.stderr
    assert not door.credentials.exists()


def test_at_boot_a_missing_secret_is_refused(door: Door, secret: Secret) -> None:
    (secret.folder / "AWSCURRENT").unlink()
    taken = run(door, "credential")
    assert taken.returncode == 1
    assert f"the secret {door.settings['AUTH_SECRET']} cannot be read" in taken.stderr
    assert not door.credentials.exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [("AUTH", ""), ("AUTH", "tokens"), ("AUTH", "TOKEN"), ("AUTH_TOKEN_HEADER", "X-Token")],
)
def test_an_unknown_mode_is_refused(door: Door, secret: Secret, name: str, value: str) -> None:
    door.settings[name] = value
    for script in ("credential", "prove"):
        answer = run(door, script)
        assert answer.returncode == 1
        assert "must be token" in answer.stderr
    assert not door.credentials.exists()
    with pytest.raises(AssertionError, match="AUTH must be token"):
        door.start()


def test_without_authentication_no_secret_is_needed(door: Door, secret: Secret) -> None:
    door.settings["AUTH"] = "none"
    assert run(door, "credential").returncode == 0
    assert not (secret.folder / "calls").exists()
    door.start()
    assert run(door, "prove").returncode == 0


def test_a_changed_secret_is_taken_up_by_the_running_door(door: Door, secret: Secret) -> None:
    run(door, "credential")
    door.start()
    secret.rotate("another-token")
    taken = run(door, "credential")
    assert taken.returncode == 0, taken.stderr
    assert "accepts 2 value(s)" in taken.stdout
    assert accepts(door, "another-token")
    assert accepts(door, door.credential)


def test_the_previous_value_is_dropped_after_15_minutes(door: Door, secret: Secret) -> None:
    run(door, "credential")
    door.start()
    secret.rotate("another-token", age=14 * 60)
    run(door, "credential")
    assert accepts(door, door.credential)
    secret.put("another-token", age=15 * 60)
    run(door, "credential")
    assert accepts(door, "another-token")
    assert not accepts(door, door.credential)


def test_a_door_that_starts_later_accepts_the_same(door: Door, secret: Secret) -> None:
    run(door, "credential")
    door.start()
    secret.rotate("another-token")
    run(door, "credential")
    door.stop()
    door.start()
    assert accepts(door, "another-token")
    assert accepts(door, door.credential)


@pytest.mark.parametrize("previous", [None, "two words"])
def test_a_previous_value_that_is_of_no_use_is_left_out(
    door: Door, secret: Secret, previous: str | None
) -> None:
    secret.put(door.credential, age=10)
    if previous:
        secret.put(previous, stage="AWSPREVIOUS")
    taken = run(door, "credential")
    assert (taken.returncode, taken.stderr) == (0, "")
    assert len(door.credentials.read_text().split()) == 1


def test_in_the_steady_state_secrets_manager_is_asked_once(door: Door, secret: Secret) -> None:
    run(door, "credential")
    door.start()
    before = len(secret.calls())
    taken = run(door, "credential")
    assert (taken.stdout, taken.stderr) == ("", "")
    assert len(secret.calls()) - before == 1


@pytest.mark.parametrize("value", [None, *TOKENS_REFUSED.values()], ids=["gone", *TOKENS_REFUSED])
def test_when_the_secret_breaks_the_door_keeps_the_last_good_one(
    door: Door, secret: Secret, value: str | None
) -> None:
    run(door, "credential")
    door.start()
    if value is None:
        (secret.folder / "AWSCURRENT").unlink()
    else:
        secret.put(value)
    taken = run(door, "credential")
    assert taken.returncode == 1
    assert "keeps the last good one" in taken.stderr
    assert accepts(door, door.credential)
    door.stop()
    door.start()
    assert accepts(door, door.credential)


def test_a_door_without_credentials_lets_nobody_in(door: Door) -> None:
    door.accept()
    door.start()
    assert door.get(GUARDED).status_code == 401
    assert door.get(GUARDED, door.right).status_code == 401
    assert door.get("/api/v2/heartbeat").status_code == 200


def test_the_file_of_digests_is_for_root_and_haproxy_only(door: Door, secret: Secret) -> None:
    run(door, "credential")
    assert stat.S_IMODE(door.credentials.stat().st_mode) == 0o640
    door.start()
    assert stat.S_IMODE(door.admin_socket.stat().st_mode) == 0o600


def test_the_credential_is_in_no_file_argument_environment_or_log(
    door: Door, secret: Secret
) -> None:
    programs = ["aws", "base64", "curl", "date", "install", "mv", "sha256sum", "socat", "timeout"]
    spied = door.folder / "spied"
    watchers = door.folder / "watchers"
    watchers.mkdir()
    for name in programs:
        watcher = watchers / name
        watcher.write_text(
            '#!/bin/bash\n{ printf "%s\\n" "$0" "$@"; env; } >>"$SPIED"\n'
            'PATH=${PATH#*:} exec "${0##*/}" "$@"\n'
        )
        watcher.chmod(0o755)
    door.environment["SPIED"] = str(spied)
    door.environment["PATH"] = f"{watchers}:{door.environment['PATH']}"

    door.auth = door.settings["AUTH"] = "basic"
    door.credential = "somebody:open-sesame"
    secret.put(door.credential)
    assert run(door, "credential").returncode == 0
    door.start()
    proven = run(door, "prove")
    assert proven.returncode == 0, proven.stderr
    assert door.get(GUARDED, door.right).status_code == 200
    secret.rotate("somebody:else")
    taken = run(door, "credential")
    assert taken.returncode == 0

    assert "socat" in spied.read_text()
    assert "curl" in spied.read_text()
    [encoded] = [value.split()[1] for value in door.right.values()]
    for path in door.folder.rglob("*"):
        if path.is_file() and secret.folder not in path.parents:
            content = path.read_text()
            assert "open-sesame" not in content, path
            assert encoded not in content, path
    for output in (proven, taken):
        assert "open-sesame" not in output.stdout + output.stderr


def test_prove_fails_when_a_stranger_gets_in(door: Door, secret: Secret) -> None:
    run(door, "credential")
    guarded = dict(door.settings)
    door.settings["AUTH"] = "none"
    door.start()
    door.settings = guarded
    proven = run(door, "prove")
    assert proven.returncode == 1
    assert "a request without a credential is not refused" in proven.stderr


def test_prove_fails_when_the_right_credential_is_refused(door: Door, secret: Secret) -> None:
    run(door, "credential")
    door.start()
    secret.put("another-token")
    proven = run(door, "prove")
    assert proven.returncode == 1
    assert "a client with the credential is not served" in proven.stderr


def test_prove_fails_when_nothing_answers(door: Door, secret: Secret) -> None:
    proven = run(door, "prove")
    assert proven.returncode == 1
    assert "a health check is not served" in proven.stderr
