"""One EC2 instance: a virtual machine that boots user data."""

import base64
import ipaddress
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from .aws import REGION, Aws, Signal
from .channel import Channel, ChannelError
from .errors import EmulatorError
from .guest import Guest
from .imds import InstanceMetadata

METADATA_ADDRESS = "169.254.169.254"
PORT = 8000
ATTACHED_MAC = "02:00:00:00:00:01"  # guest_root has it too


LABEL, OWNER = "chroma-data", 10001  # of the data volume's file system and its files


class Volume:
    """An EBS volume: a sparse file."""

    def __init__(self, volume_id: str, file: Path, gib: int) -> None:
        self.volume_id = volume_id
        self.file = file
        self.grow(gib)

    def grow(self, gib: int) -> None:
        """Make the disk larger, never smaller; a machine sees it when it is plugged in the next time."""
        with self.file.open("ab") as disk:
            disk.truncate(max(gib << 30, disk.tell()))

    def fill(self, folders: Mapping[str, Path], texts: Mapping[str, str]) -> None:
        """Make the data volume of an instance that was shut down, with copies of some folders."""
        with tempfile.TemporaryDirectory() as scratch:
            root = Path(scratch)
            for name, folder in folders.items():
                shutil.copytree(folder, root / name)
                for path in (root / name, *(root / name).rglob("*")):
                    os.chown(path, OWNER, OWNER)
            for name, text in texts.items():
                (root / name).write_text(text)
            make = ["mkfs.ext4", "-q", "-F", "-m", "0", "-L", LABEL, "-d", str(root)]
            subprocess.run([*make, str(self.file)], check=True)


class Machine:
    """A virtual machine with an instance id, a root disk and metadata of its own.

    ``url`` leads from this computer to port 8000 of the machine, ``private_url`` leads there by
    the interface that it attached. ``reachable`` maps
    ports of 169.254.169.254, as the machine sees them, to ports of this computer's loopback;
    nothing else can be reached from inside. ``port`` is that of ``url``, by default a free one.
    """

    def __init__(
        self,
        instance_id: str,
        user_data: str,
        folder: Path,
        guest: Guest,
        aws: Aws,
        volumes: Mapping[str, Volume],
        reachable: Mapping[int, int],
        port: int | None = None,
    ) -> None:
        self.instance_id = instance_id
        self.metadata = InstanceMetadata(instance_id, REGION, user_data, aws.new_access_key())
        self.started_at = 0.0
        self._aws = aws
        self._guest = guest
        self._volumes = volumes
        self._attached: list[str] = []
        self._reachable = {80: self.metadata.port, **reachable}
        self._port = port or free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self.private_url = f"http://127.0.0.1:{free_port()}"
        self.console_file = folder / "console.log"
        self._root = folder / "root.qcow2"
        subprocess.run(
            ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", guest.disk, self._root],
            check=True,
        )
        aws.machines[instance_id] = self

    # Life

    def start(self, growing_disks: bool = False) -> None:
        """Switch the machine on: for as long as the calling thread lives, at most.

        With ``growing_disks`` its volumes are virtio disks, since qemu resizes no NVMe disk that is in use.
        """
        self._growing_disks = growing_disks
        self._qmp, self._agent = Channel(), Channel()
        lines = (self._qmp.far_end, self._agent.far_end)
        self.started_at = time.monotonic()
        self._qemu = subprocess.Popen(
            self._command(*(line.fileno() for line in lines)),
            pass_fds=[line.fileno() for line in lines],
            stdin=subprocess.DEVNULL,
            # Ctrl-C is for who started it, who shuts it down.
            start_new_session=True,
        )
        for line in lines:
            line.close()
        try:
            self._qmp.call("qmp_capabilities")
        except (OSError, ChannelError) as error:
            self._qemu.kill()
            raise EmulatorError(
                f"qemu does not start the machine: it ended with {self._qemu.wait()} ({error})"
            ) from None

    def snapshot(self, volume: Volume) -> Path:
        """A copy of a volume's disk as it is at one moment. The machine stands still from then on."""
        self._qmp.call("stop")
        copy = volume.file.with_suffix(".snapshot")
        subprocess.run(["cp", "--sparse=always", volume.file, copy], check=True)
        return copy

    def power_cut(self) -> None:
        """End the machine from one moment to the next."""
        self._qemu.kill()
        self._ended(timeout=30)

    def shut_down(self, timeout: float = 600) -> None:
        """Have the machine's system end in that many seconds; `start` goes on from its disks."""
        deadline = time.monotonic() + timeout
        self.run("systemctl poweroff", timeout)
        self._ended(max(1, deadline - time.monotonic()))

    def terminate(self) -> None:
        """End the machine for good, and release its volumes."""
        self.close()
        self.release()

    def release(self) -> None:
        """Release the volumes of a machine that was closed; until then no other one can attach them."""
        self._aws.release(self.instance_id)

    def close(self) -> None:
        """End what runs on this computer for the machine."""
        if self.running:
            self.power_cut()
        self.metadata.close()
        self._root.unlink(missing_ok=True)

    # Use

    def run(self, command: str, timeout: float = 900) -> subprocess.CompletedProcess[str]:
        """Run a shell command as root and return its outcome, waiting first for the boot."""
        deadline = time.monotonic() + timeout
        arguments = {"path": "/bin/bash", "arg": ["-c", command], "capture-output": True}
        answer = self._agent.call("guest-exec", arguments, timeout)
        while True:
            try:
                outcome = self._agent.call("guest-exec-status", answer, timeout)
            except ConnectionError:  # the command ended the machine
                return subprocess.CompletedProcess(command, 0, "", "")
            if outcome["exited"]:
                return subprocess.CompletedProcess(
                    command,
                    outcome.get("exitcode", -outcome.get("signal", 0)),
                    *(
                        base64.b64decode(outcome.get(stream, "")).decode(errors="replace")
                        for stream in ("out-data", "err-data")
                    ),
                )
            if time.monotonic() > deadline:
                raise TimeoutError(f"{command!r} still runs after {timeout} seconds")
            time.sleep(0.2)

    def wait_for_signal(self, timeout: float = 2400) -> Signal:
        """Return what the user data tells CloudFormation."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            signal = self._aws.wait_for_signal(self.instance_id, timeout=1)
            if signal:
                return signal
            if not self.running:
                raise RuntimeError(f"the machine ended without a signal\n{self.console[-4000:]}")
        raise TimeoutError(f"no signal in {timeout} seconds\n{self.console[-4000:]}")

    def plug(self, volume_id: str) -> None:
        """Give the machine a volume's disk; `attach-volume` comes here."""
        self._attached.append(volume_id)
        serial, file = _serial(volume_id), self._volumes[volume_id].file
        disk = {"node-name": serial, "driver": "file", "filename": str(file)}
        self._qmp.call("blockdev-add", disk)
        self._qmp.call(
            "device_add", {"driver": "nvme", "id": serial, "drive": serial, "serial": serial}
        )

    def grow(self, volume_id: str, gib: int) -> None:
        """Make a volume's disk larger; `modify-volume` comes here.

        The guest sees that at once if the machine was started with `growing_disks`, else after its next start.
        """
        if self._growing_disks:
            size = {"node-name": _serial(volume_id), "size": gib << 30}
            self._qmp.call("block_resize", size)
        else:
            self._volumes[volume_id].grow(gib)

    def plug_interface(self, address: str) -> None:
        """Give the machine an interface; `attach-network-interface` comes here.

        The guest configures it by DHCP, as Amazon Linux does with those that appear later.
        """
        port = urlsplit(self.private_url).port
        network = {
            "type": "user",
            "id": "attached",
            "restrict": True,
            "net": str(ipaddress.ip_interface(f"{address}/24").network),
            "dhcpstart": address,
            "hostfwd": [{"str": f"tcp:127.0.0.1:{port}-{address}:{PORT}"}],
        }
        self._qmp.call("netdev_add", network)
        card = {"driver": "virtio-net-pci", "id": "eni", "netdev": "attached", "mac": ATTACHED_MAC}
        self._qmp.call("device_add", card)

    @property
    def running(self) -> bool:
        """Whether the machine is switched on."""
        return self._qemu.poll() is None

    @property
    def console(self) -> str:
        """What the machine wrote to its serial console, over all its starts."""
        return self.console_file.read_text(errors="replace")

    @property
    def access_key(self) -> str:
        """The key of the role credentials that only this machine has."""
        return self.metadata.access_key

    def _ended(self, timeout: float) -> None:
        self._qemu.wait(timeout)
        self._qmp.close()
        self._agent.close()

    def _command(self, qmp: int, agent: int) -> list[str]:
        identity = f"ec2{self.instance_id.removeprefix('i-')[:5]}-0000-4000-8000-000000000000"
        return [
            # Killed with the thread that started it, so that no test leaves a machine behind.
            *("setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64"),
            *("-nodefaults", "-no-reboot", "-display", "none"),
            *("-machine", "pc,hpet=off", "-m", "2048", *_processors()),
            *("-kernel", str(self._guest.kernel)),
            # A panic ends qemu, by way of a reset, so that nobody waits for the machine.
            *("-append", f"root={self._guest.root} rw console=ttyS0 mitigations=off panic=-1"),
            *("-smbios", f"type=1,manufacturer=Amazon EC2,uuid={identity},serial={identity}"),
            *("-device", "virtio-rng-pci"),
            *("-netdev", self._network(), "-device", "virtio-net-pci,netdev=net"),
            *("-drive", f"if=none,id=root,file={_escaped(self._root)},cache=unsafe"),
            *("-device", "nvme,drive=root,serial=vol00000000000000000"),
            *self._volume_devices(),
            *("-chardev", f"file,id=console,path={_escaped(self.console_file)},append=on"),
            *("-serial", "chardev:console"),
            *("-chardev", f"socket,id=qmp,fd={qmp}", "-mon", "chardev=qmp,mode=control"),
            *("-chardev", f"socket,id=agent,fd={agent}", "-device", "virtio-serial-pci"),
            *("-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"),
        ]

    def _network(self) -> str:
        """Return a network without a way out: some ports lead in, some to this computer."""
        forwards = [
            f"guestfwd=tcp:{METADATA_ADDRESS}:{port}-cmd:socat - TCP:127.0.0.1:{target}"
            for port, target in self._reachable.items()
        ]
        return ",".join(
            [
                "user,id=net,restrict=on,net=169.254.0.0/16,host=169.254.0.2,dns=169.254.0.3",
                f"hostfwd=tcp:127.0.0.1:{self._port}-169.254.0.15:{PORT}",
                *forwards,
            ]
        )

    def _volume_devices(self) -> list[str]:
        devices: list[str] = []
        for volume_id in self._attached:
            serial, file = _serial(volume_id), self._volumes[volume_id].file
            devices += [
                "-blockdev",
                f"driver=file,node-name={serial},filename={_escaped(file)}",
            ]
            driver = "virtio-blk-pci" if self._growing_disks else "nvme"
            devices += ["-device", f"{driver},id={serial},drive={serial},serial={serial}"]
        return devices


def has_kvm() -> bool:
    """Whether machines run on this computer's processor, by KVM, rather than on an emulated one.

    A `/dev/kvm` alone is not enough: without the processor's own support it fails in the guest.
    """
    features = set(Path("/proc/cpuinfo").read_text().split())
    return bool(features & {"svm", "vmx"}) and os.access("/dev/kvm", os.R_OK | os.W_OK)


def _processors() -> list[str]:
    """Return how the machine computes: with KVM, or emulated.

    Emulated it has a single processor: when one patches the kernel's code while another runs it,
    as the kernel does at boot, qemu now and then runs the old code ("Oops: int3"). AVX is off,
    because emulating wide vectors takes longer than doing without: pulling an image, by a third.
    """
    if has_kvm():
        return ["-accel", "kvm", "-cpu", "host", "-smp", "2"]
    return ["-accel", "tcg,tb-size=1024", "-cpu", "max,la57=off,avx=off,avx2=off", "-smp", "1"]


def _escaped(file: Path) -> str:
    """Return a name as it stands in an option of qemu's, where commas end a value."""
    return str(file).replace(",", ",,")


def _serial(volume_id: str) -> str:
    """Return the serial number that a volume's disk has: its id without the dash."""
    return volume_id.replace("-", "")


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
