"""The boot by its real script: what it does in which order, and how it fails.

A failed boot is at once, with a sentence, and leaves the data as it is.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.host.boot import ADDRESS, IMAGE_ID, INSTANCE, SECRET, VOLUME, Boot
from tests.host.programs import wait_until

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
        rf"{boot.disk} {boot.mount} ext4 noatime,nosuid,nodev,dirsync,data=journal,nofail 0 2\n",
        (boot.root / "fstab").read_text(),
    )


def test_a_disk_of_ours_is_mounted_as_it_is(boot: Boot) -> None:
    formatted("-t", "ext4", "-L", "chroma-data")(boot.disk)
    before = boot.disk.read_bytes()
    boot.tag("chroma-data", VOLUME)
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
    boot.tag("chroma-data", "vol-00000000000000001")
    before = boot.disk.read_bytes()
    said = boot.run()
    assert boot.failure == "empty volume, but the data is on vol-00000000000000001"
    assert "startEmpty=true" in said
    assert boot.disk.read_bytes() == before


def test_an_empty_volume_is_taken_where_that_is_what_was_asked_for(tmp_path: Path) -> None:
    boot = Boot(tmp_path, START_EMPTY="true")
    boot.tag("chroma-data", "vol-00000000000000001")
    boot.run()
    assert boot.signals == [f"SUCCESS {INSTANCE}"]


@pytest.mark.parametrize(
    ("last", "version"),
    [("1.5.9", "0.6.3"), ("1.5.9", "1.0.20"), ("1.5.9", "1.5.8"), ("1.10.0", "1.9.0")],
)
def test_data_of_a_later_release_is_refused_with_both_named(
    tmp_path: Path, last: str, version: str
) -> None:
    boot = Boot(tmp_path, VERSION=version)
    (boot.mount / "version").write_text(f"{last}\n")
    said = boot.run()
    assert boot.failure == f"data of Chroma {last}, a later release than {version}"
    assert "To go back on purpose, remove" in said
    assert (boot.mount / "version").read_text() == f"{last}\n"


@pytest.mark.parametrize("last", [None, "1.5.9", "1.5.8", "0.6.3", "1.5.9.dev1"])
def test_data_of_the_same_or_an_earlier_release_is_taken(boot: Boot, last: str | None) -> None:
    if last == "1.5.9.dev1":
        boot.settings["VERSION"] = "1.5.10"
    if last:
        (boot.mount / "version").write_text(f"{last}\n")
    boot.run()
    assert boot.signals == [f"SUCCESS {INSTANCE}"]


def test_a_failed_update_records_no_release_so_that_the_previous_one_starts_again(
    boot: Boot,
) -> None:
    (boot.mount / "version").write_text("1.3.4\n")
    boot.replaces("self-test", "#!/bin/bash\necho 'self-test: no' >&2; exit 1\n")
    boot.run()
    assert boot.failure == "self-test: no"
    assert (boot.mount / "version").read_text() == "1.3.4\n"


def test_the_release_and_the_volume_are_recorded(boot: Boot) -> None:
    boot.run()
    assert boot.called("create-tags")[0].endswith(
        f"--resources {ADDRESS} --tags Key=chroma-data,Value={VOLUME}"
    )
    assert boot.tag("chroma-data") == VOLUME
    assert (boot.mount / "version").read_text() == "1.5.9\n"


def test_a_full_disk_leaves_the_recorded_release(boot: Boot) -> None:
    (boot.mount / "version").write_text("1.3.4\n")
    (boot.mount / "version.new").symlink_to("/dev/full")
    said = boot.run("refuse_links() { :; }; answers() { :; }\nmain")
    assert boot.signals == [f"SUCCESS {INSTANCE}"]
    assert "version: not recorded" in said
    assert (boot.mount / "version").read_text() == "1.3.4\n"


def test_a_volume_that_does_not_appear_may_have_a_key_that_is_not_granted(boot: Boot) -> None:
    said = boot.run("find_disk() { false; }\nmain")
    assert boot.failure == f"{VOLUME} attached, but no disk appears"
    assert "Its KMS key may not be granted" in said


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


@pytest.mark.parametrize(
    "name", ["version", "tmp", "images", "log", "data", "tls", "log/x", "images/x", "tls/x"]
)
def test_a_link_on_the_volume_is_refused_and_not_followed(boot: Boot, name: str) -> None:
    target = boot.root / "target"
    target.mkdir()
    link = boot.mount / name
    link.parent.mkdir(exist_ok=True)
    if name == "data":
        (link / "chroma.sqlite3").unlink()
        link.rmdir()
    link.symlink_to(target)
    boot.run('chown() { echo chown "$@" >>"$CALLS"; }; answers() { :; }\nmain')
    assert boot.failure == f"volume {VOLUME} holds a link or device: {link.name}"[:64]
    assert not [it for it in boot.called("^chown") if str(link) in it.split()]
    assert not list(target.iterdir())


def test_a_pipe_on_the_volume_does_not_hold_the_boot(boot: Boot) -> None:
    os.mkfifo(boot.mount / "version")
    boot.run()
    assert boot.failure == f"volume {VOLUME} holds a link or device: version"[:64]


def test_what_root_keeps_on_the_volume_is_roots_alone(boot: Boot) -> None:
    boot.run('chown() { echo chown "$@" >>"$CALLS"; }; answers() { :; }\nmain')
    folders = " ".join(f"{boot.mount}/{name}" for name in ("images", "log", "tls"))
    root = f"chown root:root {boot.mount} {folders}"
    assert root in boot.called("^chown")
    assert (boot.mount / "images").stat().st_mode & 0o777 == 0o700
    assert (boot.mount / "log").stat().st_mode & 0o777 == 0o700


def test_the_log_of_a_boot_is_on_the_volume_for_the_next_instance(boot: Boot) -> None:
    (boot.root / "boot.log").write_text("what cloud-init said before\n")
    for number in range(12):
        (boot.mount / "log").mkdir(exist_ok=True)
        (boot.mount / "log" / f"20260101T0000{number:02}Z-i-1.log").touch()
    boot.replaces("self-test", "#!/bin/bash\necho 'self-test: everybody gets in' >&2; exit 1\n")
    boot.run()
    *previous, last = sorted((boot.mount / "log").iterdir())
    assert len(previous) == 9
    assert last.name.endswith(f"-{INSTANCE}.log")
    wait_until(lambda: "FAILED" in last.read_text(), "the failure is in the log")
    assert last.read_text().startswith("what cloud-init said before\n")
    assert "self-test: everybody gets in" in last.read_text()


def test_no_name_on_the_volume_leads_to_a_file_elsewhere(boot: Boot) -> None:
    """Old logs are removed by root, and a snapshot may come from anybody."""
    elsewhere = boot.root / "elsewhere.log"
    elsewhere.touch()
    hostile = boot.mount / "log" / "0 " / elsewhere.relative_to("/")
    hostile.parent.mkdir(parents=True)
    hostile.touch()
    for number in range(12):
        (boot.mount / "log" / f"{number} \n\"' {elsewhere.name}").touch()
    boot.run()
    assert boot.signals == [f"SUCCESS {INSTANCE}"]
    assert elsewhere.exists()
    assert len([it for it in (boot.mount / "log").iterdir() if it.is_file()]) == 10


def event(said: str, name: str) -> str:
    """The message of the one event of that name."""
    lines = [json.loads(it) for it in said.splitlines() if it.startswith('{"event":')]
    [message] = [it["message"] for it in lines if it["event"] == name]
    return str(message)


def test_a_boot_that_is_done_is_an_event(boot: Boot) -> None:
    said = boot.run()
    assert event(said, "boot_done").startswith(f"Chroma 1.5.9 answers at {ADDRESS}, ")


def test_a_boot_that_failed_is_an_event_with_the_reason_before_the_stack_is_told(
    boot: Boot,
) -> None:
    boot.settings["LOG_GROUP"] = "Chroma-Logs"
    boot.fails("attach-volume", 'An "error" occurred\n(UnauthorizedOperation)')
    said = boot.run('sleep() { echo "sleep $1" >>"$CALLS"; SECONDS=$((SECONDS + $1)); }\nmain')
    message = event(said, "boot_failed")
    assert message.startswith(f"{VOLUME} not attached. ")
    assert message.endswith('The last error was: An "error" occurred (UnauthorizedOperation)')
    order = [
        it.split()[0] for it in boot.called("start chroma-agent.service|sleep 15|signal-resource")
    ]
    assert order == ["systemctl", "sleep", "aws", "aws"]


def test_where_there_is_no_agent_a_failed_boot_does_not_wait_for_it(boot: Boot) -> None:
    boot.fails("attach-volume", "An error occurred (UnauthorizedOperation)")
    boot.settings["LOG_GROUP"] = "Chroma-Logs"
    boot.fails("systemctl-start", "Unit chroma-agent.service not found.")
    boot.run('sleep() { echo "sleep $1" >>"$CALLS"; SECONDS=$((SECONDS + $1)); }\nmain')
    assert not boot.called("sleep 15")
    assert boot.failure == f"{VOLUME} not attached"


def test_without_monitoring_a_failed_boot_starts_no_agent(boot: Boot) -> None:
    """The units are there from the start of the services on."""
    boot.replaces("self-test", "#!/bin/bash\necho 'self-test: everybody gets in' >&2; exit 1\n")
    boot.run(
        'sleep() { echo "sleep $1" >>"$CALLS"; SECONDS=$((SECONDS + $1)); }\nanswers() { :; }\nmain'
    )
    assert len(boot.signals) == 2
    assert not boot.called("chroma-agent|sleep 15")


MONITORING = "chroma-(logs|agent|status)"


def test_monitoring_is_started_beside_the_boot_before_the_volume_is_attached(
    tmp_path: Path,
) -> None:
    boot = Boot(tmp_path, LOG_GROUP="Chroma-Logs")
    boot.run()
    assert boot.signals == [f"SUCCESS {INSTANCE}"]
    calls = boot.called(f"^systemctl enable.*{MONITORING}|attach-volume|^dnf|associate-address")
    assert [it.split()[0] for it in calls] == ["dnf", "systemctl", "aws", "aws", "systemctl"]
    assert "--no-block" in calls[1]
    assert calls[1].endswith("chroma-logs.service chroma-agent.service")
    assert "chroma-status.timer" in calls[4]


def test_an_instance_without_its_address_does_not_say_that_the_server_answers(
    tmp_path: Path,
) -> None:
    boot = Boot(tmp_path, LOG_GROUP="Chroma-Logs")
    boot.fails("associate-address", "An error occurred (UnauthorizedOperation)")
    boot.run()
    assert boot.signals[0] == f"FAILURE address {ADDRESS} not taken"
    assert not boot.called("chroma-status.timer")


def test_without_a_log_group_there_is_no_monitoring(boot: Boot) -> None:
    boot.run()
    assert boot.signals == [f"SUCCESS {INSTANCE}"]
    assert not boot.called(f"^systemctl.*{MONITORING}")


def test_monitoring_that_cannot_be_started_fails_no_boot(tmp_path: Path) -> None:
    boot = Boot(tmp_path, LOG_GROUP="Chroma-Logs")
    (boot.root / "bin" / "systemctl").write_text(
        '#!/bin/bash\n[[ $* != *chroma-agent* ]] || exit 1\necho "systemctl $*" >>"$CALLS"\n'
        "[[ $1 != show ]] || echo 0\n"
    )
    said = boot.run()
    assert "monitoring: not started" in said
    assert boot.signals == [f"SUCCESS {INSTANCE}"]


def test_a_reason_of_any_length_is_counted(boot: Boot) -> None:
    """A tag's value may have 256 characters."""
    os.mkfifo(boot.mount / ("x" * 255))
    boot.run()
    recorded = boot.tag("chroma-boot-failures")
    assert recorded.startswith("1 in a row")
    assert len(recorded) <= 256


def test_an_image_that_could_not_be_kept_takes_no_room(boot: Boot) -> None:
    (boot.mount / "images").mkdir()
    (boot.mount / "images" / "x86_64-0.tar.gz.new").touch()
    boot.fails("sync", "sync: error syncing: Input/output error")
    said = boot.run()
    assert "image: not kept on the volume" in said
    assert list((boot.mount / "images").iterdir()) == []


def test_each_failed_boot_in_a_row_waits_longer_before_the_next_one_is_launched(boot: Boot) -> None:
    boot.fails("attach-volume", "An error occurred (UnauthorizedOperation)")
    slept = []
    for count in range(1, 8):
        said = boot.run(
            'sleep() { SECONDS=$((SECONDS + $1)); echo "slept $1"; }\nanswers() { :; }\nmain'
        )
        slept.append(int(re.findall(r"slept (\d+)", said)[-1]))
        reason = f"{VOLUME} not attached"
        assert re.fullmatch(
            rf"{count} in a row at 20\S+Z: {reason}", boot.tag("chroma-boot-failures")
        )
    assert slept == [0, 120, 360, 840, 1800, 3600, 3600]


def test_the_stack_is_told_of_a_failure_before_the_wait(boot: Boot) -> None:
    boot.tag("chroma-boot-failures", "9 in a row")
    boot.fails("attach-volume", "An error occurred (UnauthorizedOperation)")
    boot.run('sleep() { echo "sleep $1" >>"$CALLS"; SECONDS=$((SECONDS + $1)); }\nmain')
    calls = boot.called("signal-resource|sleep 3600|set-instance-health")
    assert [it.split()[-1] for it in calls[-2:]] == ["3600", "Unhealthy"]
    assert len(boot.signals) == 2


def test_a_boot_that_succeeds_begins_the_count_of_failures_anew(boot: Boot) -> None:
    boot.tag("chroma-boot-failures", "4 in a row at 2026-11-25T00:00:00Z: what failed")
    boot.run()
    assert boot.tag("chroma-boot-failures") == "0"


GROUP_TAG = "create-or-update-tags"


def test_the_group_of_a_server_with_a_window_says_how_its_last_boot_ended(boot: Boot) -> None:
    boot.settings["MAINTENANCE_WINDOW"] = "sun:04:00"
    boot.tag("aws:autoscaling:groupName", "Chroma-Group-1")
    boot.run()
    [call] = boot.called(GROUP_TAG)
    assert "ResourceId=Chroma-Group-1,ResourceType=auto-scaling-group," in call
    assert "Key=chroma-last-boot,Value=done,PropagateAtLaunch=false" in call
    boot.fails("dnf", "no repository")
    said = boot.run()
    assert "Key=chroma-last-boot,Value=failed," in boot.called(GROUP_TAG)[-1]
    assert (
        '{"event":"maintenance_skipped","message":"no maintenance at sun:04:00 until a boot '
        'succeeds"}' in said
    )


def test_without_a_window_no_boot_is_recorded_on_the_group(boot: Boot) -> None:
    boot.run()
    boot.fails("dnf", "no repository")
    boot.run()
    assert boot.called(GROUP_TAG) == []


def test_a_group_that_takes_no_tag_changes_nothing_about_a_boot(boot: Boot) -> None:
    boot.settings["MAINTENANCE_WINDOW"] = "sun:04:00"
    boot.fails(GROUP_TAG, "AccessDenied")
    said = boot.run()
    assert "this boot could not be recorded as done" in said
    assert boot.signals[0].startswith("SUCCESS")
    boot.calls.write_text("")
    boot.fails("dnf", "no repository")
    boot.run()
    assert boot.failure == "packages not installed: no package repository reachable"


def test_security_updates_begin_where_they_were_asked_for(boot: Boot) -> None:
    boot.run()
    assert boot.called("chroma-updates.timer") == []
    boot.settings["SECURITY_UPDATES"] = "true"
    boot.run()
    assert len(boot.called("^systemctl enable --now .*chroma-updates.timer")) == 1


def test_a_reason_with_signs_that_a_tag_may_not_have_is_recorded_all_the_same(boot: Boot) -> None:
    boot.replaces("self-test", "#!/bin/bash\necho 'self-test: a, \"b\" = $c; é' >&2; exit 1\n")
    boot.run()
    assert re.search(r": self-test: a_ _b_ _ _c_ _+$", boot.tag("chroma-boot-failures")), boot.tag(
        "chroma-boot-failures"
    )


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
    boot.answer("get-secret-value", json.dumps({"SecretString": secret}))
    said = boot.run()
    assert boot.failure == "no usable credential"
    assert sentence in said
    assert "two words" not in said
    assert not boot.called("systemctl enable --now")


def test_a_user_whose_secret_is_of_no_use_fails_no_boot(tmp_path: Path) -> None:
    boot = Boot(tmp_path, USERS="/chroma/Chroma/Server/users")
    boot.real("credential")
    users = [{"Name": "/chroma/Chroma/Server/users/search", "Value": f"read {SECRET[:-1]}x"}]
    boot.answer("get-parameters-by-path", json.dumps({"Parameters": users}))
    values = [{"ARN": SECRET, "SecretString": "a-token"}]
    values += [{"ARN": f"{SECRET[:-1]}x", "SecretString": "two words"}]
    boot.answer("batch-get-secret-value", json.dumps({"SecretValues": values}))
    said = boot.run()
    assert boot.signals == [f"SUCCESS {INSTANCE}"]
    assert "user search: the secret may hold only ASCII letters" in said
    assert "two words" not in said


def test_a_proxy_that_lets_everybody_in_keeps_the_server_off_its_address(boot: Boot) -> None:
    boot.replaces("self-test", "#!/bin/bash\necho 'self-test: everybody gets in' >&2; exit 1\n")
    boot.run()
    assert boot.failure == "self-test: everybody gets in"


def test_a_server_that_ends_again_and_again_fails_with_its_log(boot: Boot) -> None:
    boot.answer("journalctl---unit", "thread 'main' panicked\n")
    boot.answer("systemctl-show", "10\n")
    said = boot.run("answers() { return 7; }\nmain")
    assert boot.failure == "chroma does not answer on port 8000"
    assert "the last error was: thread 'main' panicked" in said
    assert len(boot.called("journalctl")) == 1


def test_a_start_may_take_twenty_minutes_and_the_log_says_what_it_does(boot: Boot) -> None:
    boot.answer("journalctl---unit", "converting the data\n")
    said = boot.run("answers() { ((SECONDS > 1100)); }\nmain")
    assert boot.signals == [f"SUCCESS {INSTANCE}"]
    assert 15 <= said.count("still waiting; chroma: converting the data") <= 20


def test_a_server_that_never_answers_fails_after_the_time_that_a_start_may_take(boot: Boot) -> None:
    said = boot.run("answers() { return 7; }\nmain")
    assert boot.failure == "chroma does not answer on port 8000"
    [end] = re.findall(r"(\d+) s: FAILED", said)
    assert 1200 <= int(end) <= 1260


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
        ("(InvalidNetworkInterface.InUse): Interface: [eni-…] in use.", 1320),
        ("(IncorrectState): instance is not in a valid state", 1320),
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


def test_an_interface_is_waited_for_after_a_long_start_too(tmp_path: Path) -> None:
    boot = Boot(tmp_path, **PRIVATE)
    boot.fails("attach-network-interface", "An error occurred (InvalidNetworkInterface.InUse)")
    said = boot.run("ip() { :; }; SECONDS=2000; take_address")
    [end] = re.findall(r"(\d+) s: FAILED", said)
    assert 2120 <= int(end) <= 2180


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
    said = boot.run(
        'answers() { :; }\ntake_address() { echo denied >"$ANSWERS/create-tags.error"; }\nmain'
    )
    assert boot.code == 0
    assert boot.signals == [f"SUCCESS {INSTANCE}"]
    assert not boot.called("set-instance-health")
    assert "boot failures: the count" in said
    assert "version: not recorded" in said
    assert "image: not kept on the volume" in said
    assert "user_data_after: a command failed" in said
    assert not boot.tag(f"chroma-image-{platform.machine()}")


REGISTRY_ERRORS = [
    "dial tcp: i/o timeout",
    "Error response from daemon: manifest unknown",
    "ghcr.io/chroma-core/chroma:1.5.9: not found",
    "denied: requested access to the resource is denied",
    "no matching manifest for linux/arm64/v8 in the manifest list entries",
]


@pytest.mark.parametrize("error", REGISTRY_ERRORS)
def test_an_instance_that_has_run_once_comes_up_without_the_registry(
    boot: Boot, error: str
) -> None:
    boot.run()
    [kept] = (boot.mount / "images").iterdir()
    assert boot.tag(f"chroma-image-{platform.machine()}") == f"{IMAGE_ID} {boot.settings['IMAGE']}"
    boot.calls.write_text("")
    boot.fails("docker-pull", error)
    said = boot.run()
    assert "taking the one kept on the volume" in said
    assert boot.called("docker load|docker tag") == [
        f"docker load -q -i {kept}",
        f"docker tag {IMAGE_ID} chroma-server",
    ]
    assert boot.signals == [f"SUCCESS {INSTANCE}"]


def test_an_image_for_another_reference_is_not_taken(boot: Boot) -> None:
    boot.run()
    boot.calls.write_text("")
    boot.settings["IMAGE"] = "ghcr.io/chroma-core/chroma:1.6.0"
    boot.fails("docker-pull", "manifest unknown")
    boot.run()
    assert boot.failure == "image not found: chroma:1.6.0"
    assert not boot.called("docker load")


def test_each_architecture_has_its_own_kept_image(boot: Boot) -> None:
    arm = "uname() { echo aarch64; }; IMAGE_TAG=chroma-image-aarch64; answers() { :; }\nmain"
    boot.run()
    boot.fails("docker-pull", "manifest unknown")
    boot.calls.write_text("")
    boot.run(arm)
    assert boot.failure == "image not found: chroma:1.5.9"
    assert not boot.called("docker load")
    (boot.answers / "docker-pull.error").unlink()
    boot.answer("docker-image", "sha256:" + "cd" * 32 + " 1000\n")
    boot.run(arm)
    assert len(list((boot.mount / "images").iterdir())) == 2
    boot.fails("docker-pull", "manifest unknown")
    for script, image_id in (("answers() { :; }\nmain", IMAGE_ID), (arm, "sha256:" + "cd" * 32)):
        boot.calls.write_text("")
        boot.run(script)
        assert f"docker tag {image_id} chroma-server" in boot.called()
        assert boot.signals == [f"SUCCESS {INSTANCE}"]


def test_an_image_that_a_snapshot_brings_along_is_not_taken(boot: Boot) -> None:
    """Only the address says which image was kept; a new stack's address says nothing."""
    boot.run()
    boot.tag(f"chroma-image-{platform.machine()}", "None")
    boot.calls.write_text("")
    boot.fails("docker-pull", "manifest unknown")
    boot.run()
    assert boot.failure == "image not found: chroma:1.5.9"
    assert not boot.called("docker load")


def test_a_kept_file_that_holds_another_image_is_refused(boot: Boot) -> None:
    boot.run()
    boot.calls.write_text("")
    boot.fails("docker-pull", "manifest unknown")
    boot.fails("docker-tag", "Error response from daemon: No such image")
    boot.run()
    assert boot.failure == "image kept on the volume is damaged"


def test_a_tag_that_has_moved_is_kept_anew(boot: Boot) -> None:
    boot.run()
    boot.answer("docker-image", "sha256:" + "cd" * 32 + " 1000\n")
    boot.run()
    [kept] = (boot.mount / "images").iterdir()
    assert kept.name == f"{platform.machine()}-{'cd' * 32}.tar.gz"
    assert boot.tag(f"chroma-image-{platform.machine()}").startswith("sha256:" + "cd" * 32)


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


def test_the_instance_has_swap_after_a_reboot_too(boot: Boot) -> None:
    swap = boot.root / "swapfile"
    swap.touch()  # as dd would
    boot.run()
    assert boot.called("^dd|^mkswap|^swapon") == [
        f"dd if=/dev/zero of={swap} bs=1M count=512 status=none",
        f"mkswap {swap}",
        f"swapon {swap}",
    ]
    assert f"{swap} none swap nofail 0 0" in (boot.root / "fstab").read_text().splitlines()
    assert boot.signals == [f"SUCCESS {INSTANCE}"]


def test_a_root_volume_without_room_gets_no_swap(boot: Boot) -> None:
    said = boot.run("answers() { :; }\ndf() { printf 'Avail\\n1535\\n'; }\nmain")
    assert "swap: none, the root volume has no room" in said
    assert not boot.called("^dd|^mkswap|^swapon")
    assert boot.signals == [f"SUCCESS {INSTANCE}"]


def test_an_instance_on_which_swap_cannot_be_used_serves_without(boot: Boot) -> None:
    (boot.root / "swapfile").touch()
    boot.fails("swapon", "swapon failed: Invalid argument")
    said = boot.run()
    assert "swap: none, see the lines above" in said
    assert "swapfile" not in (boot.root / "fstab").read_text()
    assert not (boot.root / "swapfile").exists()
    assert boot.signals == [f"SUCCESS {INSTANCE}"]


def test_the_certificate_is_there_before_the_proxy_and_looked_after_from_then_on(
    boot: Boot,
) -> None:
    boot.settings["TLS"] = "optional"
    boot.run()
    services, timers = boot.called("^systemctl enable --now")
    assert "chroma-proxy.service" in services
    assert "chroma-certificate.timer" in timers
    assert "chroma-grow.timer" in timers
    calls = boot.called("^(certificate|self-test|systemctl enable --now)")
    assert calls == ["certificate", services, "self-test", timers]


def test_without_tls_there_is_no_certificate(boot: Boot) -> None:
    boot.settings["TLS"] = "off"
    boot.run()
    assert boot.called("^certificate|chroma-certificate.timer") == []


def test_a_certificate_in_a_secret_that_is_of_no_use_fails_the_boot(boot: Boot) -> None:
    boot.settings["TLS"] = "required"
    sentence = "the certificate in the secret is not used: its certificate does not fit its key"
    boot.replaces("certificate", f"#!/bin/bash\necho '{sentence}' >&2; exit 1\n")
    said = boot.run()
    assert boot.failure == "no certificate: its certificate does not fit its key"
    assert sentence in said


def test_an_authority_that_does_not_answer_fails_no_boot(boot: Boot) -> None:
    boot.settings |= {"TLS": "optional", "ACME_DIRECTORY": "https://acme.example.com/directory"}
    boot.replaces(
        "certificate",
        f"#!/bin/bash\nmkdir -p {boot.mount}/tls; echo 'no answer' >{boot.mount}/tls/problem\n",
    )
    said = boot.run()
    assert boot.called("python3-certbot-dns-route53")
    assert boot.signals[-1].startswith("SUCCESS")
    assert "certificate: no answer" in said
