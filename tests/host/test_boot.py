"""The boot by its real script: what it does in which order, and how it fails.

A failed boot is at once, with a sentence, and leaves the data as it is.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.host.boot import ADDRESS, INSTANCE, VOLUME, Boot

INTERFACE = "eni-0123456789abcdef0"
PRIVATE = {"ADDRESS": INTERFACE, "PRIVATE_ADDRESS": "10.0.1.7"}


@pytest.fixture
def boot(tmp_path: Path) -> Boot:
    return Boot(tmp_path)


def formatted(*options: str) -> Callable[[Path], None]:
    def make(disk: Path) -> None:
        subprocess.run(["mke2fs", "-q", "-F", *options, str(disk)], check=True)

    return make


def noise(disk: Path) -> None:
    """No signature that anybody knows, but no blank disk either."""
    with disk.open("r+b") as file:
        file.seek(4096)
        file.write(b"somebody's own format")


def test_the_address_is_taken_after_the_self_test_and_success_is_signalled_last(
    boot: Boot,
) -> None:
    said = boot.run()
    assert boot.code == 0, said
    assert boot.signals == [f"SUCCESS {INSTANCE}"]
    order = [
        "dnf install",
        "aws ec2 attach-volume",
        "systemctl restart docker.service",
        "docker pull",
        "credential",
        "systemctl enable --now",
        "self-test",
        "aws ec2 create-tags",
        "aws ec2 associate-address",
        "aws cloudformation signal-resource",
    ]
    calls = boot.called()
    places = [next(n for n, it in enumerate(calls) if it.startswith(part)) for part in order]
    assert places == sorted(places), calls
    assert not boot.called("set-instance-health")


def test_a_blank_disk_gets_a_file_system_of_ours(boot: Boot) -> None:
    boot.run()
    label = subprocess.run(
        ["blkid", "--probe", "--match-tag", "LABEL", "--output", "value", str(boot.disk)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert label.stdout == "chroma-data\n"
    assert re.fullmatch(
        rf"UUID=\S+ {boot.mount} ext4 noatime,dirsync,data=journal,nofail 0 2\n",
        (boot.root / "fstab").read_text(),
    )


def test_a_disk_of_ours_is_mounted_as_it_is(boot: Boot) -> None:
    formatted("-t", "ext4", "-L", "chroma-data")(boot.disk)
    before = boot.disk.read_bytes()
    boot.answer("describe-tags", f"{VOLUME}\n")
    boot.run()
    assert boot.signals == [f"SUCCESS {INSTANCE}"]
    assert boot.disk.read_bytes() == before


@pytest.mark.parametrize(
    "content",
    [formatted("-t", "ext3"), formatted("-t", "ext4", "-L", "other"), noise],
    ids=["another file system", "another label", "noise"],
)
def test_a_disk_with_other_data_is_refused_and_left_as_it_is(
    boot: Boot, content: Callable[[Path], None]
) -> None:
    content(boot.disk)
    before = boot.disk.read_bytes()
    boot.run()
    assert boot.failure == f"volume {VOLUME} holds other data, left as it is"
    assert boot.disk.read_bytes() == before


def test_an_empty_volume_is_refused_where_the_data_is_on_another(boot: Boot) -> None:
    boot.answer("describe-tags", "vol-00000000000000001\n")
    before = boot.disk.read_bytes()
    said = boot.run()
    assert boot.failure == "empty volume, but the data is on vol-00000000000000001"
    assert "startEmpty=true" in said
    assert boot.disk.read_bytes() == before


def test_an_empty_volume_is_taken_where_that_is_what_was_asked_for(tmp_path: Path) -> None:
    boot = Boot(tmp_path, START_EMPTY="true")
    boot.answer("describe-tags", "vol-00000000000000001\n")
    boot.run()
    assert boot.signals == [f"SUCCESS {INSTANCE}"]


def test_data_of_a_later_generation_is_refused(tmp_path: Path) -> None:
    boot = Boot(tmp_path, VERSION="0.6.3")
    (boot.mount / "version").write_text("1.5.9\n")
    boot.run()
    assert boot.failure == "data of Chroma 1.5.9, which 0.6.3 cannot read"
    assert (boot.mount / "version").read_text() == "1.5.9\n"


def test_the_release_and_the_volume_are_recorded(boot: Boot) -> None:
    boot.run()
    [tagged] = boot.called("create-tags")
    assert tagged.endswith(f"--resources {ADDRESS} --tags Key=chroma-data,Value={VOLUME}")
    assert (boot.mount / "version").read_text() == "1.5.9\n"


def test_without_a_package_repository_it_retries_and_then_says_so(boot: Boot) -> None:
    error = "Error: Failed to download metadata for repo 'amazonlinux'"
    boot.fails("dnf", error)
    said = boot.run()
    assert boot.failure == "packages not installed: no package repository reachable"
    assert said.count(f"retrying after: {error}") == 1
    assert len(boot.called("^dnf")) > 10


@pytest.mark.parametrize(
    "error",
    [
        "Error response from daemon: manifest unknown",
        "ghcr.io/chroma-core/chroma:1.5.9: not found",
        "denied: requested access to the resource is denied",
        "no matching manifest for linux/arm64/v8 in the manifest list entries",
    ],
)
def test_an_image_that_is_not_there_is_named_at_once(boot: Boot, error: str) -> None:
    boot.fails("docker", error)
    boot.run()
    assert boot.failure == "image not found: chroma:1.5.9"
    assert len(boot.called("^docker pull")) == 1


def test_a_registry_that_is_out_of_reach_is_what_the_stack_is_told(boot: Boot) -> None:
    boot.fails("docker", "dial tcp: i/o timeout")
    boot.run()
    assert boot.failure == "no way to ghcr.io"


@pytest.mark.parametrize(
    ("secret", "sentence"),
    [
        ("two words", "letters, digits and punctuation, no spaces"),
        ("", "the secret is empty"),
    ],
)
def test_a_broken_secret_fails_closed(boot: Boot, secret: str, sentence: str) -> None:
    boot.real("credential")
    boot.answer("get-secret-value", f"2026-11-25T00:00:00+00:00\tstring\t{secret}\n")
    said = boot.run()
    assert boot.failure == "no usable credential"
    assert sentence in said
    assert "two words" not in said
    assert not boot.called("systemctl enable --now")


def test_a_proxy_that_lets_everybody_in_keeps_the_server_off_its_address(boot: Boot) -> None:
    boot.replaces("self-test", "#!/bin/bash\necho 'self-test: everybody gets in' >&2; exit 1\n")
    boot.run()
    assert boot.failure == "self-test: everybody gets in"


def test_a_server_that_does_not_answer_fails_with_its_log(boot: Boot) -> None:
    boot.answer("journalctl---unit", "thread 'main' panicked\n")
    said = boot.run("answers() { return 7; }\nmain")
    assert boot.failure == "chroma does not answer on port 8000"
    assert "the last error was: thread 'main' panicked" in said


def test_a_server_that_keeps_its_data_elsewhere_is_refused(boot: Boot) -> None:
    (boot.mount / "data" / "chroma.sqlite3").unlink()
    boot.run()
    assert boot.failure == "chroma does not keep its data on the volume"


def test_a_step_that_fails_unexpectedly_is_reported_by_its_line(boot: Boot) -> None:
    (boot.answers / "docker-image").write_text("")
    said = boot.run("prepare_folders() { false; }\nmain")
    assert re.fullmatch(r"boot failed at line \d+: .+", boot.failure), said


def test_the_interface_is_attached_and_its_address_waited_for(tmp_path: Path) -> None:
    boot = Boot(tmp_path, **PRIVATE)
    said = boot.run(
        """
        ip() { ((SECONDS < 30)) || echo '3: ens6 inet 10.0.1.7/24 brd'; }
        sleep 5; take_address; echo taken
        """
    )
    [call] = boot.called("attach-network-interface")
    assert f"--network-interface-id {INTERFACE} --device-index 1" in call
    assert call.endswith(f"--instance-id {INSTANCE} --output text")
    assert "force" not in call
    assert said.endswith("taken\n")


def test_an_address_that_only_begins_alike_is_another(tmp_path: Path) -> None:
    boot = Boot(tmp_path, **PRIVATE)
    said = boot.run(
        "ip() { echo '3: ens6 inet 10.0.1.70/24'; echo '4: e inet 110.0.1.7/24'; }\ntake_address"
    )
    assert f"FAILED: {INTERFACE} attached, but without its address" in said


def test_an_interface_that_is_here_already_is_not_attached_again(tmp_path: Path) -> None:
    boot = Boot(tmp_path, **PRIVATE)
    boot.run("ip() { echo '3: ens6 inet 10.0.1.7/24'; }; take_address")
    assert (boot.code, boot.called()) == (0, [])


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        ("(InvalidNetworkInterface.InUse): Interface: [eni-…] in use.", 900),
        ("(IncorrectState): instance is not in a valid state", 900),
        ("(UnauthorizedOperation): You are not authorized", 120),
    ],
)
def test_what_the_previous_instance_still_has_is_waited_for_longer(
    tmp_path: Path, error: str, seconds: int
) -> None:
    boot = Boot(tmp_path, **PRIVATE)
    boot.fails("attach-network-interface", f"An error occurred {error}")
    said = boot.run("ip() { :; }; take_address")
    assert boot.signals[0] == f"FAILURE {INTERFACE} not attached"
    assert said.count("retrying after: An error occurred") == 1
    [end] = re.findall(r"(\d+) s: FAILED", said)
    assert seconds <= int(end) <= seconds + 60


def test_a_wait_is_as_long_as_the_environment_says(tmp_path: Path) -> None:
    boot = Boot(tmp_path, **PRIVATE)
    boot.fails("attach-network-interface", "An error occurred (UnauthorizedOperation)")
    said = boot.run("ATTACH_TIMEOUT=10; ip() { :; }; take_address")
    [end] = re.findall(r"(\d+) s: FAILED", said)
    assert int(end) < 60


@pytest.mark.parametrize(
    "verb", ["Could not connect to the", "Connect timeout on", "Read timeout on"]
)
def test_an_endpoint_that_is_missing_is_what_the_stack_is_told(boot: Boot, verb: str) -> None:
    url = "https://ec2.ap-northeast-1.amazonaws.com/"
    boot.fails("attach-volume", f'{verb} endpoint URL: "{url}"')
    said = boot.run()
    assert boot.failure == "no way to ec2.ap-northeast-1.amazonaws.com"
    assert f"So: {VOLUME} not attached." in said
    assert "VPC endpoint" in said


def test_the_owners_last_commands_run_with_their_environment(boot: Boot) -> None:
    hostile = "$(touch x) `a` 'b' \"c\" \\ ; & é ="
    (boot.root / "environment").write_text(f"MINE={hostile}\nOTHER=two words\n")
    (boot.program / "after").write_text('printf "%s|%s\\n" "$MINE" "$OTHER" >>"$CALLS"\n')
    boot.run()
    assert boot.called()[-1] == f"{hostile}|two words"
    assert "signal-resource" in "".join(boot.called()[:-1])


def test_nothing_that_fails_after_success_ends_a_serving_instance(boot: Boot) -> None:
    (boot.program / "after").write_text("false\n")
    boot.fails("sync", "sync: error syncing: Input/output error")
    said = boot.run()
    assert boot.code == 0
    assert boot.signals == [f"SUCCESS {INSTANCE}"]
    assert not boot.called("set-instance-health")
    assert "image: not kept on the volume" in said
    assert "user_data_after: a command failed" in said
    assert not (boot.mount / "image.name").exists()


def test_the_image_is_kept_on_the_volume_and_taken_from_there(boot: Boot) -> None:
    boot.run()
    assert (boot.mount / "image.name").read_text() == "ghcr.io/chroma-core/chroma:1.5.9\n"
    boot.calls.write_text("")
    boot.fails("docker-pull", "dial tcp: i/o timeout")
    said = boot.run()
    assert "image: taking the one kept on the volume" in said
    assert boot.signals == [f"SUCCESS {INSTANCE}"]


def test_dockers_default_bridge_is_off_unless_the_owner_configures_docker(boot: Boot) -> None:
    config = boot.root / "daemon.json"
    boot.run("start_docker")
    assert config.read_text() == '{"bridge": "none"}\n'
    config.write_text("{}")
    boot.run("start_docker")
    assert config.read_text() == "{}"


def test_a_configuration_is_written_and_mounted_only_when_there_is_one(tmp_path: Path) -> None:
    boot = Boot(tmp_path)
    boot.run("write_config")
    assert not (tmp_path / "config.env").exists()
    boot.settings["CHROMA_CONFIG"] = '{"persist_path": "/data", "region": "$HOME \\\\ \'"}'
    boot.run("write_config")
    assert (tmp_path / "config.yaml").read_text() == f"{boot.settings['CHROMA_CONFIG']}\n"
    assert (tmp_path / "config.yaml").stat().st_mode & 0o444 == 0o444
    mount = (tmp_path / "config.env").read_text()
    assert mount.endswith("dst=/config.yaml,readonly\n")
    assert len(mount.split()) == 1
