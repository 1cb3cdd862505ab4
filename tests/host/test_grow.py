"""A data volume that grows by itself: a real file system on a loop device, and a stand-in for EBS."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.host.programs import HOST, program

VOLUME = "vol-0123456789abcdef0"
GIB = 1 << 30

AWS = """\
#!/bin/bash
echo "$*" >>"$FOLDER/calls"
action=$2
[[ ! -f $FOLDER/hangs ]] || exec sleep 60
if [[ -f $FOLDER/$action.error ]]; then
    cat "$FOLDER/$action.error" >&2
    exit 254
fi
if [[ $action == modify-volume ]]; then
    [[ $* =~ --size\\ ([0-9]+) ]]
    echo "${BASH_REMATCH[1]}" >"$FOLDER/asked"
else
    cat "$FOLDER/changes"
fi
"""

RESIZE = """\
#!/bin/bash
/sbin/resize2fs "$1" && exit # nothing to do
umount "$FOLDER/mount" || exit
trap 'mount -o loop "$FOLDER/image" "$FOLDER/mount"' EXIT
# A process that another test started in a mount namespace of its own may hold the file system still.
for _ in {1..600}; do
    [[ $(/sbin/losetup --associated "$FOLDER/image") ]] || break
    sleep 0.1
done
/sbin/e2fsck -f -p "$FOLDER/image" && /sbin/resize2fs "$FOLDER/image"
"""
# Some containers have a root that may mount a file system, and not enlarge it while it is mounted.
CAP_SYS_RESOURCE = 24


def may_resize() -> bool:
    [line] = [it for it in Path("/proc/self/status").read_text().splitlines() if "CapEff" in it]
    return bool(int(line.split()[1], 16) >> CAP_SYS_RESOURCE & 1)


class Disk:
    """A data volume, mounted as `boot` mounts it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.image = folder / "image"
        self.mount = folder / "mount"
        self.limit = 0
        self.state = {
            name: folder / name for name in ("low", "followed", "problem", "full", "block")
        }
        for made in (self.mount, folder / "bin"):
            made.mkdir()
        self._stand_in("aws", AWS)
        if not may_resize():
            self._stand_in("resize2fs", RESIZE)
        self.changes()

    def make(self, gibibytes: int) -> Disk:
        self._resize(gibibytes)
        subprocess.run([program("mkfs.ext4"), "-q", "-m", "0", self.image], check=True)
        options = "loop,noatime,nosuid,nodev,dirsync,data=journal"
        done = subprocess.run(
            ["mount", "-o", options, self.image, self.mount], capture_output=True, text=True
        )
        if done.returncode:
            pytest.skip(f"no loop device: {done.stderr.strip()}")
        return self

    @property
    def device(self) -> str:
        """The disk that the file system is on; empty while there is none."""
        command = ["findmnt", "--noheadings", "--output", "SOURCE", self.mount]
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()

    def unmount(self) -> None:
        if self.device:
            subprocess.run(["umount", self.mount], check=True)

    def becomes(self, gibibytes: int) -> None:
        """What EBS does when a volume grows: the disk is larger, under whoever uses it."""
        self._resize(gibibytes)
        subprocess.run([program("losetup"), "--set-capacity", self.device], check=True)

    def leave(self, percent: float) -> None:
        """Fills the volume until so much of it is free."""
        space = os.statvfs(self.mount)
        more = (space.f_bavail - space.f_blocks * percent / 100) * space.f_frsize
        file = self.mount / "data"
        have = file.stat().st_size if file.exists() else 0
        with file.open("ab") as data:
            os.truncate(data.fileno(), max(0, have + min(0, int(more))))
            if more > 0:
                os.posix_fallocate(data.fileno(), have, int(more))

    def changes(self, *changes: tuple[str, float, int]) -> None:
        """What EBS says of the volume's changes: state, hours ago, target size."""
        now = datetime.datetime.now(datetime.timezone.utc)
        found = [
            {
                "VolumeId": VOLUME,
                "ModificationState": state,
                "TargetSize": size,
                "StartTime": (now - datetime.timedelta(hours=hours)).isoformat(),
            }
            for state, hours, size in changes
        ]
        (self.folder / "changes").write_text(json.dumps({"VolumesModifications": found}))

    def fails(self, action: str, error: str) -> None:
        (self.folder / f"{action}.error").write_text(f"\n{error}\n")

    def has_been_low(self, seconds: float) -> None:
        self.state["low"].write_text(str(time.time() - seconds))

    def run(self, **environment: str) -> str:
        """What one call says; it never fails."""
        lines = [f"VOLUME={VOLUME}", "REGION=eu-central-1"]
        if self.limit:
            lines.append(f"MAX_VOLUME_SIZE={self.limit}")
        settings = self.folder / "settings"
        settings.write_text("\n".join(lines) + "\n")
        done = subprocess.run(
            [HOST / "grow"],
            env={
                "PATH": f"{self.folder}/bin:{os.environ['PATH']}",
                "FOLDER": str(self.folder),
                "SETTINGS": str(settings),
                "MOUNT": str(self.mount),
                "VOLUME_LOW": str(self.state["low"]),
                "VOLUME_FOLLOWED": str(self.state["followed"]),
                "VOLUME_PROBLEM": str(self.state["problem"]),
                "DISK_FULL": str(self.state["full"]),
                "BLOCK_DEVICES": str(self.state["block"]),
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    @property
    def asked(self) -> int:
        """The GiB that EBS was asked for last."""
        file = self.folder / "asked"
        return int(file.read_text()) if file.exists() else 0

    @property
    def calls(self) -> list[str]:
        file = self.folder / "calls"
        return file.read_text().splitlines() if file.exists() else []

    @property
    def size(self) -> float:
        """Of the file system, in GiB."""
        space = os.statvfs(self.mount)
        return space.f_blocks * space.f_frsize / GIB

    def _stand_in(self, name: str, text: str) -> None:
        file = self.folder / "bin" / name
        file.write_text(text)
        file.chmod(0o755)

    def _resize(self, gibibytes: int) -> None:
        with self.image.open("ab") as image:
            image.truncate(gibibytes * GIB)


@pytest.fixture
def make_disk(tmp_path: Path) -> Iterator[Callable[[int], Disk]]:
    if os.geteuid() != 0:
        pytest.skip("mounting a file system takes root")
    disk = Disk(tmp_path)
    yield disk.make
    disk.unmount()


@pytest.fixture
def disk(make_disk: Callable[[int], Disk]) -> Disk:
    """One of 24 GiB that may grow to 100."""
    made = make_disk(24)
    made.limit = 100
    return made


def said(output: str) -> dict[str, Any]:
    """The one event that was printed."""
    [line] = output.splitlines()
    return dict(json.loads(line))


def test_a_volume_with_room_stays_as_it_is_and_aws_is_not_asked(disk: Disk) -> None:
    disk.leave(11)
    disk.has_been_low(3600)
    assert disk.run() == ""
    assert disk.calls == []
    assert not disk.state["low"].exists()


def test_a_volume_that_was_low_for_five_minutes_grows_by_10_gib(disk: Disk) -> None:
    disk.leave(9)
    assert disk.run() == ""
    assert float(disk.state["low"].read_text()) == pytest.approx(time.time(), abs=60)
    disk.has_been_low(240)
    assert disk.run() == ""
    assert disk.asked == 0
    disk.has_been_low(301)
    assert disk.run() == "2.1 GiB free: the data volume grows from 24 to 34 GiB\n"
    assert disk.asked == 34
    assert f"--volume-id {VOLUME}" in disk.calls[-1]


def test_the_five_minutes_begin_again_when_there_was_room(disk: Disk) -> None:
    disk.leave(9)
    disk.run()
    disk.leave(20)
    disk.run()
    disk.leave(9)
    disk.run()
    assert time.time() - float(disk.state["low"].read_text()) < 60
    assert disk.asked == 0


def test_a_volume_whose_writes_are_refused_does_not_wait(disk: Disk) -> None:
    disk.leave(4)
    disk.state["full"].touch()
    disk.run()
    assert disk.asked == 34


def test_the_file_system_follows_and_that_is_said_once(disk: Disk) -> None:
    disk.run()
    disk.leave(9)
    disk.becomes(34)
    told = said(disk.run())
    assert told["event"] == "volume_grown"
    assert told["message"].startswith("the data volume has 34 GiB now, ")
    assert disk.size == pytest.approx(34, rel=0.03)
    assert disk.run() == ""


def test_the_file_system_follows_a_deployment_too(disk: Disk) -> None:
    disk.limit = 0
    assert disk.run() == ""
    disk.becomes(30)
    assert said(disk.run())["event"] == "volume_grown"
    assert disk.size == pytest.approx(30, rel=0.03)
    disk.leave(1)
    disk.has_been_low(3600)
    disk.run()
    assert disk.calls == [], "without a limit it only follows"


def test_a_small_volume_grows_to_its_limit(make_disk: Callable[[int], Disk]) -> None:
    disk = make_disk(2)
    disk.limit = 3
    disk.leave(8)
    disk.has_been_low(301)
    disk.run()
    assert disk.asked == 3
    disk.changes(("optimizing", 0.01, 3))
    disk.becomes(3)
    told = disk.run()
    assert said(told)["message"].startswith("the data volume has 3 GiB now")
    assert disk.size == pytest.approx(3, rel=0.05)


def test_at_its_limit_it_is_said_once_that_it_does_not_grow(disk: Disk) -> None:
    disk.limit = 24
    disk.leave(9)
    disk.has_been_low(301)
    told = said(disk.run())
    assert told["event"] == "volume_not_grown"
    assert "it has 24 GiB, and maxVolumeSize is 24" in told["message"]
    assert disk.run() == ""
    assert disk.calls == []
    disk.leave(20)
    disk.run()
    disk.leave(9)
    disk.has_been_low(301)
    assert said(disk.run())["event"] == "volume_not_grown", "it is full again"


def test_a_large_volume_grows_by_a_tenth(make_disk: Callable[[int], Disk]) -> None:
    disk = make_disk(205)
    disk.limit = 1000
    disk.leave(9)
    disk.has_been_low(301)
    disk.run()
    assert disk.asked == 205 + 21


def use(disk: Disk, *samples: tuple[float, float], volume: str = VOLUME) -> None:
    """What was in use so many minutes ago: GiB less than now."""
    space = os.statvfs(disk.mount)
    used = (space.f_blocks - space.f_bavail) * space.f_frsize
    kept = [[time.time() - minutes * 60, used - less * GIB] for minutes, less in samples]
    (disk.mount / "growth.json").write_text(json.dumps({"volume": volume, "used": kept}))


def test_what_fills_fast_grows_by_what_seven_hours_like_the_last_take(disk: Disk) -> None:
    disk.leave(8)
    use(disk, (50, 5.0), (25, 2.0))
    disk.has_been_low(301)
    disk.run()
    # 5 GiB in 50 minutes are 42 in seven hours, and 8 % of 24 GiB are free.
    assert disk.asked == pytest.approx(24 + 42 - 24 * 0.08, abs=1)


@pytest.mark.parametrize(
    ("samples", "volume"),
    [
        ([(5, 5.0)], VOLUME),
        ([(90, 20.0), (5, 0.1)], VOLUME),
        ([(50, -3.0)], VOLUME),
        ([(-500, 5.0)], VOLUME),
        ([(50, 5.0)], "vol-00000000000000000"),
    ],
    ids=["too short", "too old", "emptied", "in the future", "of another volume"],
)
def test_what_says_little_of_the_next_hours_is_not_used(
    disk: Disk, samples: list[tuple[float, float]], volume: str
) -> None:
    disk.leave(8)
    use(disk, *samples, volume=volume)
    disk.has_been_low(301)
    disk.run()
    assert disk.asked == 34


@pytest.mark.parametrize(
    "text",
    ["", "[", "[]", '{"volume": 1}', '{"used": [[1]]}', "null", "[" * 100_000, "\0" * 1_000_000],
)
def test_a_file_that_is_no_record_of_the_use_is_replaced(disk: Disk, text: str) -> None:
    file = disk.mount / "growth.json"
    file.write_text(text)
    assert disk.run() == ""
    kept = json.loads(file.read_text())
    assert kept["volume"] == VOLUME
    assert len(kept["used"]) == 1


@pytest.mark.parametrize("used", ["-Infinity", "NaN", "1e400", "1" + "0" * 400, "-1e300"])
def test_a_use_that_no_volume_can_have_had_is_not_used(disk: Disk, used: str) -> None:
    disk.leave(8)
    text = f'{{"volume": "{VOLUME}", "used": [[{time.time() - 3000}, {used}]]}}'
    (disk.mount / "growth.json").write_text(text)
    disk.has_been_low(301)
    disk.run()
    assert disk.asked == 34


@pytest.mark.parametrize("name", ["growth.json", "growth.json.new", "growth.new"])
def test_no_name_on_the_volume_leads_elsewhere_or_holds_it_up(disk: Disk, name: str) -> None:
    """It may come from anybody's snapshot."""
    elsewhere = disk.folder / "elsewhere"
    elsewhere.write_text("untouched")
    file = disk.mount / name
    file.symlink_to(elsewhere)
    assert disk.run() == ""
    file.unlink(missing_ok=True)
    os.mkfifo(file)
    assert disk.run() == ""
    file.unlink(missing_ok=True)
    file.mkdir()
    assert disk.run() == ""
    assert elsewhere.read_text() == "untouched"


def test_a_file_system_that_does_not_follow_is_said_at_the_next_call_only(disk: Disk) -> None:
    """Chroma's start may enlarge it at the same moment."""
    disk.run()
    disk.becomes(30)
    real = disk.folder / "bin" / "resize2fs"
    kept = real.read_text() if real.exists() else ""
    real.write_text("#!/bin/sh\necho 'resize2fs: Device or resource busy' >&2; exit 1\n")
    real.chmod(0o755)
    assert disk.run() == ""
    told = said(disk.run())
    assert told["event"] == "volume_not_grown"
    assert told["message"].endswith("Device or resource busy")
    real.unlink()
    if kept:
        real.write_text(kept)
        real.chmod(0o755)
    assert said(disk.run())["event"] == "volume_grown"


def test_the_use_of_the_last_hour_is_kept_for_the_next_instance(disk: Disk) -> None:
    use(disk, (70, 1.0), (50, 1.0), (5, 0.1))
    disk.run()
    disk.run()
    kept = json.loads((disk.mount / "growth.json").read_text())["used"]
    assert [round((time.time() - at) / 60) for at, _ in kept] == [50, 5, 0]


def test_a_volume_without_any_room_grows_too(disk: Disk) -> None:
    with (disk.mount / "data").open("wb") as data:
        space = os.statvfs(disk.mount)
        os.posix_fallocate(data.fileno(), 0, space.f_bavail * space.f_frsize * 99 // 100)
    with pytest.raises(OSError, match="No space"):
        (disk.mount / "rest").write_bytes(bytes(1 << 29))
    disk.has_been_low(301)
    disk.run()
    assert disk.asked == 34


@pytest.mark.parametrize("state", ["completed", "failed"])
def test_six_hours_are_between_two_changes_whoever_made_them(disk: Disk, state: str) -> None:
    disk.leave(9)
    disk.has_been_low(301)
    disk.changes((state, 5.9, 24), ("completed", 30, 20))
    assert "less than six hours ago" in said(disk.run())["message"]
    assert disk.run() == ""
    disk.changes((state, 6.1, 24), ("completed", 30, 20))
    disk.run()
    assert disk.asked == 34


def test_a_change_that_is_not_completed_is_waited_for(disk: Disk) -> None:
    disk.leave(9)
    disk.has_been_low(301)
    disk.changes(("optimizing", 8, 24))
    assert "has not completed its last change" in said(disk.run())["message"]
    assert disk.asked == 0


@pytest.mark.parametrize("state", ["modifying", "optimizing", "completed"])
def test_a_change_whose_size_has_not_appeared_is_looked_for(disk: Disk, state: str) -> None:
    controller = disk.state["block"] / Path(disk.device).name / "device" / "rescan_controller"
    controller.parent.mkdir(parents=True)
    controller.touch()
    disk.leave(9)
    disk.has_been_low(301)
    disk.changes((state, 0.01, 34))
    assert disk.run() == ""
    assert controller.read_text() == "1"
    assert disk.asked == 0


def test_a_size_that_does_not_appear_is_said_once(disk: Disk) -> None:
    disk.leave(9)
    disk.has_been_low(301)
    disk.changes(("completed", 0.3, 34))
    assert "asked for 34 GiB, and the disk still has 24" in said(disk.run())["message"]
    assert disk.run() == ""
    assert disk.asked == 0


def test_what_aws_refuses_is_said_once_with_its_reason(disk: Disk) -> None:
    disk.leave(9)
    disk.has_been_low(301)
    error = "An error occurred (UnauthorizedOperation) when calling the ModifyVolume operation: No."
    disk.fails("modify-volume", f"{error} Encoded authorization failure message: abc")
    told = said(disk.run())
    assert told["event"] == "volume_not_grown"
    assert told["message"].endswith(error)
    disk.fails("modify-volume", f"{error} Encoded authorization failure message: def")
    assert disk.run() == ""
    (disk.folder / "modify-volume.error").unlink()
    assert "grows from 24 to 34 GiB" in disk.run()


def test_aws_that_does_not_answer_is_given_up_and_the_file_system_has_followed(
    disk: Disk,
) -> None:
    disk.run()
    disk.leave(1)
    disk.becomes(25)
    disk.leave(1)
    disk.has_been_low(301)
    (disk.folder / "hangs").touch()
    began = time.monotonic()
    lines = [json.loads(line) for line in disk.run(ANSWER_TIMEOUT="2").splitlines()]
    assert time.monotonic() - began < 30
    assert [it["event"] for it in lines] == ["volume_grown", "volume_not_grown"]
    assert "no answer in 2 seconds: aws ec2 describe-volumes-modifications" in lines[1]["message"]
