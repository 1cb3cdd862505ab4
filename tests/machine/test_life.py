"""The life of one server: what `cdk deploy -c instanceType=t3.small` brings to run.

One emulated instance after the other is booted from the user data exactly as the deployed launch
template holds it; the tests follow the server through its days, in order.

The power is cut as often as CUTS says (`make soak CUTS=20`); Chroma writes its index after
SYNC_THRESHOLD operations, 1,000 as it does by default.
"""

from __future__ import annotations

import base64
import json
import os
import random
from collections.abc import Iterator

import httpx
import pytest

from chroma_stack.emulator.cdk import Cdk
from chroma_stack.emulator.moto_server import MotoServer
from chroma_stack.emulator.rig import Rig
from tests.host.programs import wait_until

from .server import CHROMA_PROCESS, PATIENCE, TENANT, Server

CUTS = int(os.environ.get("CUTS", "1"))
COLLECTIONS = f"{TENANT}/databases/default_database/collections"
SYNC_THRESHOLD = int(os.environ.get("SYNC_THRESHOLD", "1000"))
SETTINGS = {
    "instanceType": "t3.small",
    "stackName": "Life",
    "volumeSize": "2",
    "maxVolumeSize": "3",
    "users": "search:read",
}


def give_time_for_the_status(server: Server) -> None:
    """What takes a second on an instance takes most of a minute on an emulated one."""
    service, timer = (f"/run/systemd/system/chroma-status.{it}.d" for it in ("service", "timer"))
    service_text = r"[Service]\nTimeoutStartSec=900\nEnvironment=STATUS_DEADLINE=300\n"
    timer_text = r"[Timer]\nOnCalendar=\nOnCalendar=*:0/5\n"
    server.machine.run(
        f"mkdir -p {service} {timer} && printf '{service_text}' >{service}/test.conf"
        f" && printf '{timer_text}' >{timer}/test.conf && systemctl daemon-reload"
        " && systemctl restart chroma-status.timer && systemctl reset-failed"
        " && systemctl start --no-block chroma-status.service"
    )


def wait_for_the_kept_image(rig: Rig, server: Server) -> None:
    """The end of a boot, which is not made up for after a restart."""
    key = server.machine.access_key
    wait_until(
        lambda: any(
            "chroma-image-x86_64" in call.parameters.values()
            for call in rig.aws.calls_of("CreateTags", key)
        ),
        "the image is kept",
        PATIENCE,
        every=0.5,
    )


@pytest.fixture(scope="module")
def server(rig: Rig, account: MotoServer, cdk: Cdk) -> Iterator[Server]:
    outputs = cdk.deploy(SETTINGS)
    server = Server(rig, account, "Life", sync_threshold=SYNC_THRESHOLD)
    assert outputs["VolumeId"] == server.settings["VOLUME"]
    server.boot().wait_for_signal()
    give_time_for_the_status(server)
    yield server
    server.machine.terminate()


def test_the_instance_signals_success_after_it_took_its_address(rig: Rig, server: Server) -> None:
    signal = server.machine.wait_for_signal()
    print(f"boot to signal: {signal.at - server.machine.started_at:.0f} s")
    assert signal.status == "SUCCESS", server.machine.console[-6000:]
    assert signal.unique_id == server.machine.instance_id
    assert (signal.stack, signal.resource) == ("Life", server.settings["GROUP"])
    [taken] = rig.aws.calls_of("AssociateAddress", server.machine.access_key)
    assert taken.parameters["AllocationId"] == server.settings["ADDRESS"]
    assert taken.at < signal.at


def test_chroma_keeps_its_log_before_a_client_writes_and_checkpoints_have_their_time(
    server: Server,
) -> None:
    run = server.machine.run
    ask = "SELECT config_json_str FROM embeddings_queue_config"
    database = "/var/lib/chroma/data/chroma.sqlite3"
    config = run(
        f'python3 -c \'import sqlite3; print(*sqlite3.connect("{database}").execute("{ask}"))\''
    ).stdout
    assert '"automatically_purge":false' in config
    runs = "systemctl show chroma-checkpoint.service --property ExecMainExitTimestampMonotonic"
    before = run(runs).stdout
    wait_until(
        lambda: run(runs).stdout != before, "the timer has started another one", PATIENCE, every=1
    )


def test_a_request_without_the_token_is_refused(server: Server) -> None:
    assert server.status() == 401
    assert server.status({"Authorization": "Bearer wrong"}) == 401


@pytest.fixture(scope="module")
def authority(server: Server) -> str:
    """What a client has fetched once, on the first day."""
    return server.published_authority()


def test_a_client_that_has_the_servers_authority_verifies_it(
    server: Server, authority: str
) -> None:
    assert server.secure_status(authority) == 200
    assert server.secure_status(authority, TENANT) == 401
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(server.machine.url.replace("http:", "https:"))


def test_the_keys_are_for_root_and_the_proxy_alone(server: Server) -> None:
    run = server.machine.run
    assert run("stat -c '%A %U %G' /var/lib/chroma/tls").stdout == "drwxr-x--- root haproxy\n"
    others = "find /var/lib/chroma/tls -type f -perm /o+r ! -name authority.pem"
    assert run(f"{others} ! -name lock").stdout == ""
    # Not named in the command, which is in the journal itself.
    key = "\"$(sed -n '/PRIVATE/{n;p}' /var/lib/chroma/tls/authority.key)\""
    assert run(f"test -n {key}").returncode == 0
    assert run(f"journalctl --no-pager | grep -F {key}").stdout == ""


def test_a_real_client_adds_and_queries(server: Server) -> None:
    server.use_with_token(batches=4)


def test_the_log_arrives_in_cloudwatch_where_the_filters_find_what_they_count(
    rig: Rig, server: Server
) -> None:
    expected = {
        *("Requests", "Refusals", "RefusalsByUser", "Latency", "Heartbeat"),
        *("MemoryUtilization", "BackupAge", "CertificateDays"),
    }
    collection = "/api/v2/tenants/{tenant}/databases/{database}/collections/{collection}"
    used = {f"{collection}/add", f"{collection}/query"}

    def all_arrived() -> bool:
        routes = {json.loads(line).get("route") for line in server.log_lines()}
        return used <= routes and expected <= {datum.name for datum in server.data()}

    waited = wait_until(all_arrived, "requests, events and metrics", PATIENCE, every=5)
    print(f"the log arrived after {waited:.0f} s")
    data = server.data()
    assert {dict(datum.dimensions)["Server"] for datum in data} == {server.settings["SERVER"]}
    assert not {"BootFailures", "IndexRepairs"} & {datum.name for datum in data}
    refused = [dict(datum.dimensions) for datum in data if "Refusals" in datum.name]
    # The self-test's, as a user who may read too.
    kinds = {(dimensions.get("User"), dimensions["Status"]) for dimensions in refused}
    assert kinds == {(None, "401"), (None, "403"), ("search", "403")}

    lines = server.log_lines()
    assert not [line for line in lines if server.credential in line]
    entries = [json.loads(line) for line in lines]
    assert {entry["instance"] for entry in entries} == {server.machine.instance_id}
    assert all(next(iter(entry)) == "time" and entry["unit"] for entry in entries)
    assert {"boot_done", "status"} <= {entry.get("event") for entry in entries}
    assert {"boot", "chroma", "chroma-proxy"} <= {entry["unit"] for entry in entries}

    def measured() -> set[str]:
        cloudwatch = rig.aws.client("cloudwatch")
        named = [{"Name": "Server", "Value": server.settings["SERVER"]}]
        found = cloudwatch.list_metrics(Namespace="Chroma", Dimensions=named)["Metrics"]
        return {metric["MetricName"] for metric in found}

    agents = {"mem_used_percent", "swap_used_percent", "disk_used_percent"}
    wait_until(lambda: agents <= measured(), "the agent measures", PATIENCE, every=5)


def test_a_healthy_server_says_so(server: Server) -> None:
    code, state = server.health()
    print(state)
    assert (code, state["problems"]) == (0, [])
    assert (state["answers"], state["version"]) == (1, "1.5.9")
    assert (state["collections"], state["records"]) == (1, len(server.acknowledged) * 25)
    assert (
        f"{state['records']} records"
        in server.machine.run("STATUS_DEADLINE=300 chroma-status").stdout
    )


def test_the_data_is_on_the_volume_and_nothing_else_can_be_written(server: Server) -> None:
    run = server.machine.run
    assert run("findmnt -no SOURCE /var/lib/chroma").stdout.startswith("/dev/nvme1")
    assert run("test -s /var/lib/chroma/data/chroma.sqlite3").returncode == 0
    assert run("docker inspect --format '{{.HostConfig.ReadonlyRootfs}}' chroma").stdout == "true\n"
    mounts = run("docker inspect --format '{{range .Mounts}}{{.Source}} {{end}}' chroma").stdout
    volume = {"/var/lib/chroma/data", "/var/lib/chroma/tmp"}
    assert set(mounts.split()) == {*volume, "/dev/null"}


def test_the_container_has_no_privileges(server: Server) -> None:
    status = server.machine.run(f"cat /proc/$({CHROMA_PROCESS})/status").stdout
    fields = dict(line.split(":\t", 1) for line in status.splitlines())
    assert fields["Uid"].split() == ["10001"] * 4
    assert int(fields["CapEff"], 16) == int(fields["CapBnd"], 16) == 0
    assert fields["NoNewPrivs"] == "1"


def test_chroma_has_a_network_of_its_own_and_no_port_on_the_instance(server: Server) -> None:
    run = server.machine.run
    inside = run(f"nsenter --net --target $({CHROMA_PROCESS}) ip -4 -o address show").stdout
    assert "198.18.0.2/29" in inside
    assert run("docker port chroma").stdout == ""
    assert run("pgrep -x docker-proxy").stdout == ""
    listening = run("ss -Hltn | awk '{print $4}'").stdout.split()
    assert {it for it in listening if it.endswith(":8000")} == {"0.0.0.0:8000"}


def test_clients_in_dockers_default_range_are_not_cut_off(server: Server) -> None:
    assert "172.17." not in server.machine.run("ip -4 route show").stdout


def test_the_container_reaches_nothing_outside_its_network_and_nothing_on_the_instance(
    server: Server,
) -> None:
    def answer(url: str, where: str) -> str:
        ask = f"curl -s -o /dev/null -w '%{{http_code}}' --max-time 5 {url}"
        return server.machine.run(f"{where} {ask}").stdout

    inside = f"nsenter --net --target $({CHROMA_PROCESS})"
    assert answer("http://198.18.0.2:8000/api/v2/heartbeat", inside) == "200"
    for url, outside in (
        ("http://169.254.169.254/latest/", "401"),
        ("http://198.18.0.1:8000/api/v2/heartbeat", "200"),
        ("http://169.254.0.15:8000/api/v2/heartbeat", "200"),
    ):
        assert answer(url, "") == outside
        assert answer(url, inside) == "000"
    routes = f"nsenter --net --target $({CHROMA_PROCESS}) ip -4 route show"
    assert "default" not in server.machine.run(routes).stdout


def test_no_credential_is_anywhere_on_the_instance(server: Server) -> None:
    headers = (server.main_header, server.user_header("search"))
    tokens = [it["Authorization"].removeprefix("Bearer ") for it in headers]
    texts = {
        "journal": "journalctl --no-pager --all --output=export",
        "arguments": "cat /proc/[0-9]*/cmdline",
        "container": "docker inspect chroma; docker image inspect chroma-server",
        "environment": f"cat /proc/$({CHROMA_PROCESS})/environ",
    }
    for place, command in texts.items():
        output = server.machine.run(command).stdout
        assert output
        assert not any(token in output for token in tokens), place
    assert not any(token in server.machine.console for token in tokens)
    assert not any(token in server.user_data for token in tokens)
    # The patterns travel in base64, so that the search does not find itself.
    pattern = base64.b64encode("\n".join(tokens).encode()).decode()
    folders = "/etc /opt /root /run /tmp /usr/local /var"
    search = f"grep -rlIF -f <(base64 -d <<<{pattern}) --exclude-dir=docker {folders}"
    assert server.machine.run(search).stdout == ""


def test_the_digests_are_for_root_and_the_proxy_alone(server: Server) -> None:
    stat = server.machine.run("stat -c '%a %U %G' /etc/chroma/credentials").stdout.split()
    assert stat == ["640", "root", "haproxy"]


def wait_until_taken_up(server: Server, header: dict[str, str]) -> float:
    """Until then it is a wrong one, of which the proxy answers 20 a minute."""
    return wait_until(lambda: server.status(header) == 200, "it is taken up", PATIENCE, every=10)


def test_a_changed_credential_is_taken_up_within_a_minute(server: Server) -> None:
    before = {"Authorization": f"Bearer {server.credential}"}
    server.account.client("secretsmanager").put_secret_value(
        SecretId=server.settings["AUTH_SECRET"], SecretString="another-token"
    )
    after = {"Authorization": "Bearer another-token"}
    # Emulated, a read takes many times as long.
    waited = wait_until_taken_up(server, after)
    print(f"credential taken up after {waited:.0f} s")
    assert server.status(before) == 200
    server.use_with_token()


def test_a_user_comes_in_with_a_credential_that_is_not_the_servers(server: Server) -> None:
    reader = server.user_header("search")
    assert server.status(reader) == 200
    assert server.status(reader, COLLECTIONS, "POST") == 403
    assert server.status(server.main_header) == 200


def test_a_deployment_adds_a_user_and_removes_another_without_another_instance(
    server: Server, cdk: Cdk
) -> None:
    removed = server.user_header("search")
    cdk.deploy(SETTINGS | {"users": "ingest:write"})
    added = server.user_header("ingest")
    wait_until_taken_up(server, added)
    assert server.status(removed) == 401
    assert server.account.launched_user_data(server.stack_name) == server.user_data


def test_a_chroma_killed_while_it_writes_is_back_with_every_acknowledged_record(
    server: Server,
) -> None:
    with server.writing(seconds=5):
        server.machine.run(f"kill -9 $({CHROMA_PROCESS})")
    waited = server.wait_for_answer()
    print(f"killed to answer: {waited:.1f} s")
    server.use_with_token()


def test_an_index_that_was_not_written_to_its_end_is_repaired_before_chroma_starts(
    server: Server,
) -> None:
    server.use_with_token(batches=SYNC_THRESHOLD // 25)
    pickle = "/var/lib/chroma/data/*-*/index_metadata.pickle"
    damage = f"systemctl stop chroma.service && truncate --size=-1 {pickle}"
    assert server.machine.run(f"chroma-maintenance on && {damage}").returncode == 0
    code, state = server.health()
    assert code == 2
    assert [it for it in state["problems"] if "damaged" in it], state
    start = "chroma-maintenance off && systemctl start chroma.service"
    assert server.machine.run(start).returncode == 0
    server.wait_for_answer()
    said = server.machine.run("journalctl --unit chroma --grep 'ends early' --output cat").stdout
    print(said)
    assert "put back from its checkpoint" in said or "makes it again from its log" in said
    server.use_with_token()
    wait_until(
        lambda: "IndexRepairs" in {datum.name for datum in server.data()},
        "the repair is counted",
        PATIENCE,
        every=5,
    )


def test_chromas_log_is_trimmed_behind_a_checkpoint(server: Server) -> None:
    run = server.machine.run
    assert run("systemctl start chroma-checkpoint.service").returncode == 0
    said = run("/opt/chroma/indexes check /var/lib/chroma/data").stdout
    assert "checkpoint up to" in said
    assert "damaged" not in said
    owners = run("find /var/lib/chroma/data -printf '%U\n' | sort -u").stdout
    assert owners == "10001\n"
    server.use_with_token()


def test_a_restart_while_it_writes_costs_no_acknowledged_record(rig: Rig, server: Server) -> None:
    wait_for_the_kept_image(rig, server)
    with server.writing(seconds=5):
        server.machine.shut_down()
    server.machine.start(growing_disks=True)
    waited = server.wait_for_answer()
    print(f"start to answer: {waited:.0f} s")
    server.use_with_token()
    assert server.status() == 401


def test_the_volume_grows_by_itself_while_clients_write(rig: Rig, server: Server) -> None:
    run = server.machine.run
    size = "df --output=size --block-size=1G /var/lib/chroma | tail -n 1"
    assert run(size).stdout.strip() == "2"
    before = run(CHROMA_PROCESS).stdout
    server.set_for("chroma-grow", "GROWTH_AFTER=1")
    # Less than a tenth is free, and more than the twentieth below which writes are refused.
    free = "df --output=avail --block-size=1 /var/lib/chroma | tail -n 1"
    run(f"fallocate --length $(($({free}) - (150 << 20))) /var/lib/chroma/tmp/filler")
    # As its timer does once a minute.
    grow = f"systemctl start chroma-grow.service; {size}"
    with server.writing(seconds=5):
        waited = wait_until(lambda: run(grow).stdout.strip() == "3", "it grows", PATIENCE, every=2)
    print(f"grown after {waited:.0f} s")
    assert run(CHROMA_PROCESS).stdout == before, "nothing was restarted"
    assert run("rm /var/lib/chroma/tmp/filler").returncode == 0
    server.use_with_token()
    [volume] = rig.aws.client("ec2").describe_volumes(VolumeIds=[server.settings["VOLUME"]])[
        "Volumes"
    ]
    assert volume["Size"] == 3
    wait_until(
        lambda: [line for line in server.log_lines() if '"volume_grown"' in line],
        "it is said",
        PATIENCE,
        every=2,
    )


def test_chroma_does_not_start_on_an_unmounted_volume(server: Server) -> None:
    # Unmounting stops Chroma, and what asks for Chroma mounts the volume first.
    run = server.machine.run
    assert run("systemctl stop var-lib-chroma.mount").returncode == 0
    assert run("systemctl is-active chroma.service").stdout.strip() != "active"
    run("systemctl mask --runtime var-lib-chroma.mount; systemctl start chroma.service")
    assert run("systemctl is-active chroma.service").stdout.strip() != "active"
    run("systemctl unmask --runtime var-lib-chroma.mount; systemctl start chroma.service")
    server.wait_for_answer()
    server.use_with_token()


@pytest.mark.parametrize("cut", range(1, CUTS + 1))
def test_a_power_cut_while_it_writes_costs_no_acknowledged_record(server: Server, cut: int) -> None:
    with server.writing(random.uniform(1, 15)):
        server.machine.power_cut()
    server.machine.start()
    waited = server.wait_for_answer()
    print(f"cut {cut} to answer: {waited:.0f} s, {len(server.acknowledged) * 25} records")
    server.use_with_token()


def test_an_almost_full_disk_refuses_writes_and_serves_the_rest_until_there_is_room(
    server: Server,
) -> None:
    run = server.machine.run
    free = "df --output=avail --block-size=1 /var/lib/chroma | tail -n 1"
    run(f"fallocate --length $(($({free}) - (48 << 20))) /var/lib/chroma/tmp/filler")
    errors = server.write_until_refused()
    print(f"what the writers got: {errors}")
    assert "ended: InternalError" in errors
    token = {"Authorization": f"Bearer {server.credential}"}
    add = f"{server.machine.url}/api/v2{TENANT}/databases/default_database/collections/any/add"
    refused = httpx.post(add, headers=token, json={}, timeout=120)
    assert (refused.status_code, "almost full" in refused.text) == (507, True)
    code, state = server.health()
    assert code == 1
    assert "writes are refused: the data volume is almost full" in state["problems"]
    run("systemctl restart chroma.service")
    server.wait_for_answer()
    assert server.status(token) == 200
    run("rm /var/lib/chroma/tmp/filler")
    wait_until(
        lambda: httpx.post(add, headers=token, json={}, timeout=120).status_code != 507,
        "writes are let in",
        PATIENCE,
        every=1,
    )
    server.use_with_token(batches=4)


def test_the_container_has_a_limit_and_the_instance_swap_for_itself_alone(server: Server) -> None:
    run = server.machine.run
    total = int(run("awk '/MemTotal/ {print $2}' /proc/meminfo").stdout) // 1024
    limit, swap = run(
        "docker inspect --format '{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}}' chroma"
    ).stdout.split()
    reserve = 512 + 192  # and what monitoring has
    assert total - reserve - 8 <= int(limit) >> 20 <= total - reserve + 8
    assert swap == limit
    assert "/var/swapfile" in run("swapon --noheadings --show=NAME").stdout
    scores = f"cat /proc/$({CHROMA_PROCESS})/oom_score_adj /proc/$(pgrep -o haproxy)/oom_score_adj"
    assert run(scores).stdout.split() == ["500", "-900"]


def test_writes_are_refused_before_the_memory_is_full_and_queries_go_on(server: Server) -> None:
    """First with less memory than the instance has, then with all of it, as on a larger one."""
    run = server.machine.run
    folder = "/run/systemd/system/chroma.service.d"
    less = "ExecStartPre=/bin/sh -c 'echo MEMORY=350m >/run/chroma-memory.env'"
    run(f'mkdir -p {folder}; printf "[Service]\n%s\n" "{less}" >{folder}/test.conf')
    restart = "systemctl daemon-reload; systemctl restart chroma.service"
    run(restart)
    server.wait_for_answer()
    server.use_with_token()
    killed = "journalctl --dmesg --grep 'Memory cgroup out of memory' --output cat"
    assert server.fill_memory() == 507
    said = run("journalctl --unit chroma-memory --output cat").stdout
    print(said)
    assert "350 MiB in use: writes are refused" in said
    assert run(killed).stdout == ""
    server.use_with_token()
    run(f"rm {folder}/test.conf; {restart}")
    server.wait_for_answer()
    wait_until(lambda: server.fill_memory(batches=1) == 0, "writes are let in", PATIENCE, every=1)
    server.use_with_token(batches=2)


def test_after_a_stop_another_instance_takes_over_what_a_snapshot_has_without_the_registry(
    rig: Rig, server: Server, cdk: Cdk, authority: str
) -> None:
    """A new root disk, and the data disk as it was at one moment while the previous instance wrote.

    That one stands still from then on, and has the volume for a while. The group is at zero meanwhile, as
    a schedule leaves it for the night, and the stack is deployed then.
    """
    previous = server.machine
    wait_for_the_kept_image(rig, server)
    previous.run("sync")
    with server.writing(random.uniform(3, 8)):
        snapshot = previous.snapshot(server.volume)
    before = server.settings
    server.size_group(0)
    cdk.deploy(SETTINGS)
    server.size_group(1)
    server.take_user_data()
    assert server.settings == before, "volume and address stay"
    previous.close()
    snapshot.replace(server.volume.file)
    rig.registry.reachable = False
    try:
        machine = server.boot()
        wait_until(
            lambda: len(rig.aws.calls_of("AttachVolume", machine.access_key)) > 1,
            "the volume was refused",
            PATIENCE,
        )
        previous.release()
        signal = machine.wait_for_signal()
    finally:
        rig.registry.reachable = True
    print(f"replacement: boot to signal {signal.at - machine.started_at:.0f} s")
    assert (signal.status, signal.unique_id) == ("SUCCESS", machine.instance_id)
    assert "VolumeInUse" in machine.console
    assert "taking the one kept on the volume" in machine.console
    assert server.secure_status(authority) == 200
    server.use_with_token(batches=2)
    log = f"cat /var/lib/chroma/log/*-{previous.instance_id}.log"
    assert "done: the server answers" in machine.run(log).stdout, "the previous instance's log"
    mounted = machine.run("findmnt --noheadings --output OPTIONS /var/lib/chroma").stdout
    assert {"nosuid", "nodev"} <= set(mounted.strip().split(","))
