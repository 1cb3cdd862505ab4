"""The real boot script below a folder, with stand-ins for the programs of an instance.

Each stand-in writes its call to the file `calls`, prints what the folder `answers` has for it, and fails
with the error that is there. Time jumps where the script sleeps.
"""

from __future__ import annotations

import grp
import os
import re
import subprocess
from pathlib import Path

from tests.host.programs import HOST

INSTANCE = "i-0123456789abcdef0"
VOLUME = "vol-0123456789abcdef0"
ADDRESS = "eipalloc-0123456789abcdef0"
IMAGE_ID = "sha256:" + "ab" * 32
SECRET = "arn:aws:secretsmanager:ap-northeast-1:123456789012:secret:chroma-AbCdEf"
SETTINGS = {
    "STACK": "Chroma",
    "GROUP": "Group",
    "REGION": "ap-northeast-1",
    "VOLUME": VOLUME,
    "ADDRESS": ADDRESS,
    "IMAGE": "ghcr.io/chroma-core/chroma:1.5.9",
    "VERSION": "1.5.9",
    "AUTH": "token",
    "AUTH_TOKEN_HEADER": "Authorization",
    "AUTH_SECRET": SECRET,
}

AWS = """\
#!/bin/bash
arguments=("$@")
[[ $1 != --cli-connect-timeout ]] || arguments=("${@:3}")
echo "aws ${arguments[*]}" >>"$CALLS"
action=${arguments[1]}
if [[ -f $ANSWERS/$action.error ]]; then
    cat "$ANSWERS/$action.error" >&2
    exit 254
fi
case $action in
    create-tags) [[ $* =~ Key=([^,]+),Value=(.*)$ ]] && echo "${BASH_REMATCH[2]}" >"$ANSWERS/tag-${BASH_REMATCH[1]}" ;;
    describe-tags) [[ $* =~ Name=key,Values=([^ ]+) ]] && cat "$ANSWERS/tag-${BASH_REMATCH[1]}" 2>/dev/null || echo None ;;
    *) [[ ! -f $ANSWERS/$action ]] || cat "$ANSWERS/$action" ;;
esac
"""

RECORDED = """\
#!/bin/bash
echo "${0##*/} $*" >>"$CALLS"
for name in "${0##*/}" "${0##*/}-$1"; do
    [[ ! -f $ANSWERS/$name ]] || cat "$ANSWERS/$name"
    if [[ -f $ANSWERS/$name.error ]]; then
        cat "$ANSWERS/$name.error" >&2
        exit 1
    fi
done
"""

# What takes a kernel or another hour is replaced after the script is read.
BEFORE = """\
. "$HOST/boot"
sleep() { SECONDS=$((SECONDS + $1)); }
find_disk() { [[ -n $attached ]] && disk=$DISK; }
mountpoint() { :; }
chown() { :; }
trap 'fail "boot failed at line $LINENO: ${BASH_COMMAND:0:30}" "See the lines above."' ERR
"""


class Boot:
    """The boot of an instance, below a folder."""

    def __init__(self, root: Path, **settings: str) -> None:
        self.root = root
        self.settings = SETTINGS | settings
        self.calls = root / "calls"
        self.answers = root / "answers"
        self.disk = root / "disk"
        self.mount = root / "mount"
        self.program = root / "program"
        for folder in (self.answers, self.mount, self.program, root / "bin"):
            folder.mkdir()
        self.calls.touch()
        with self.disk.open("wb") as disk:
            disk.truncate(64 << 20)
        self._stand_in("aws", AWS)
        for name in (
            "dnf",
            "docker",
            "systemctl",
            "systemd-escape",
            "udevadm",
            "journalctl",
            "sync",
            "install",
            "dd",
            "mkswap",
            "swapon",
        ):
            self._stand_in(name, RECORDED)
        for name in ("certificate", "credential", "otel.py", "self-test"):
            self._program(name, '#!/bin/bash\necho "${0##*/}" >>"$CALLS"\n')
        (self.answers / "docker-image").write_text(f"{IMAGE_ID} 1000\n")
        (self.answers / "systemctl-show").write_text("0\n")
        (self.mount / "data").mkdir()
        (self.mount / "data" / "chroma.sqlite3").touch()

    def answer(self, action: str, text: str) -> None:
        """What `aws` prints for an action."""
        (self.answers / action).write_text(text)

    def fails(self, name: str, error: str) -> None:
        """Has an action of `aws`, or another program, fail with an error."""
        (self.answers / f"{name}.error").write_text(f"{error}\n")

    def tag(self, key: str, value: str | None = None) -> str:
        """What is recorded on the address, after it was set to `value` if there is one."""
        file = self.answers / f"tag-{key}"
        if value is not None:
            file.write_text(f"{value}\n")
        return file.read_text().strip() if file.exists() else ""

    def real(self, name: str) -> None:
        """Takes a program of the host files itself instead of its stand-in."""
        for file in (name, "common"):
            (self.program / file).unlink(missing_ok=True)
            (self.program / file).symlink_to(HOST / file)

    def replaces(self, name: str, text: str) -> None:
        """Takes another text as a program of the host files."""
        self._program(name, text)

    def run(self, script: str = "answers() { :; }\nmain") -> str:
        """What is said when a script goes on where the boot was read."""
        lines = [f"{name}={value}\n" for name, value in self.settings.items()]
        (self.root / "settings").write_text("".join(lines))
        (self.root / "instance-id").write_text(f"{INSTANCE}\n")
        done = subprocess.run(
            ["bash", "-c", f"{BEFORE}\n{script}"],
            env={
                "PATH": f"{self.root}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "HOST": str(HOST),
                "SETTINGS": f"{self.root}/settings",
                "INSTANCE_ID_FILE": f"{self.root}/instance-id",
                "CONFIGURATION": str(self.root),
                "MOUNT": str(self.mount),
                "FSTAB": f"{self.root}/fstab",
                "SWAP": f"{self.root}/swapfile",
                "DAEMON_CONFIG": f"{self.root}/daemon.json",
                "PROGRAM_FOLDER": str(self.program),
                "CALLS": str(self.calls),
                "ANSWERS": str(self.answers),
                "PROXY_CREDENTIALS": f"{self.root}/credentials",
                "PROXY_GROUP": grp.getgrgid(os.getgid()).gr_name,
                "CREDENTIAL_MADE": f"{self.root}/credential-made",
                "CREDENTIAL_PROBLEM": f"{self.root}/credential-problem",
                "DISK": str(self.disk),
                "BOOT_LOG": f"{self.root}/boot.log",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )
        self.code = done.returncode
        return done.stdout

    def called(self, pattern: str = "") -> list[str]:
        """The calls of programs, in their order."""
        return [it for it in self.calls.read_text().splitlines() if re.search(pattern, it)]

    @property
    def signals(self) -> list[str]:
        """What CloudFormation was told: status and unique id."""
        return [
            re.sub(".*--status (\\S+) --unique-id ", r"\1 ", it)
            for it in self.called("signal-resource")
        ]

    @property
    def failure(self) -> str:
        """The reason in the stack's events, of a boot that failed as it should: it has told
        CloudFormation twice, asked for another instance, and taken no address."""
        first, second = self.signals
        assert second == f"FAILURE {INSTANCE}"
        assert self.called("set-instance-health")
        assert not self.called("associate-address|attach-network-interface")
        assert self.code == 1
        reason = first.removeprefix("FAILURE ")
        assert len(reason) <= 64
        return reason

    def _stand_in(self, name: str, text: str) -> None:
        self._write(self.root / "bin" / name, text)

    def _program(self, name: str, text: str) -> None:
        self._write(self.program / name, text)

    def _write(self, file: Path, text: str) -> None:
        file.unlink(missing_ok=True)
        file.write_text(text)
        file.chmod(0o755)
