"""The golden image: a Debian 13 that looks like a fresh EC2 machine to its user data."""

import logging
import shlex
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

from . import processes
from .archive import packed
from .cache import cached
from .namespace import as_root
from .tls import Authority

HERE = Path(__file__).parent
FILES = HERE / "guest_root"
SETUP = HERE / "guest_setup.sh"

PACKAGES = (
    "linux-image-cloud-amd64 systemd-sysv udev dbus kmod iproute2 cloud-init qemu-guest-agent "
    "docker.io docker-cli iptables haproxy awscli curl socat ncat python3 python3-cryptography ca-certificates "
    "e2fsprogs xfsprogs"
)
DISK_MIB = 8192
# Disks are probed in no fixed order: the kernel finds its root partition by this.
DISK_LABEL = 0x63687261


@dataclass(frozen=True)
class Guest:
    """What a machine starts from; read-only, shared by all machines."""

    disk: Path
    kernel: Path
    root = f"PARTUUID={DISK_LABEL:08x}-01"


def guest(authority: Authority) -> Guest:
    """Return the golden image, built when there is none for this recipe."""

    def build(folder: Path) -> None:
        root, files, log = folder / "root", folder / "files.tar", logging.getLogger(__name__)
        log.info("the machine's system, of packages of Debian 13")
        files.write_bytes(packed(FILES))
        processes.run(
            as_root(
                *("mmdebstrap", "--quiet", "--mode=root", "--format=directory"),
                # An ordinary user may not mount it, and no package asks for it.
                *("--variant=minbase", "--skip=chroot/mount/sys"),
                *(
                    f"--dpkgopt=path-exclude=/usr/share/{docs}/*"
                    for docs in ("doc", "locale", "man")
                ),
                f"--include={','.join(PACKAGES.split())}",
                f"--customize-hook=tar-in {shlex.quote(str(files))} /",
                (
                    f"--customize-hook=upload {shlex.quote(str(authority.certificate))}"
                    " /usr/local/share/ca-certificates/rig.crt"
                ),
                # By bash: an installed package may have lost that the file is executable.
                f'--customize-hook=bash {shlex.quote(str(SETUP))} "$1"',
                *("trixie", root),
            )
        )
        log.info("the machine's disk")
        (kernel,) = root.glob("boot/vmlinuz-*")
        (folder / "vmlinux").write_bytes(_uncompressed(kernel.read_bytes()))
        _make_disk(folder / "disk.raw", root)
        files.unlink()
        subprocess.run(as_root("rm", "-r", "--one-file-system", root), check=True)

    recipe: list[Path | str] = [Path(__file__), FILES, SETUP, authority.certificate]
    folder = cached("guest", recipe, build)
    return Guest(folder / "disk.raw", folder / "vmlinux")


def _make_disk(disk: Path, root: Path) -> None:
    """Write a disk with one partition that holds the tree."""
    linux, mib = 0x83, 2048  # type of the partition; sectors
    partition = struct.pack("<4xB3xII", linux, mib, (DISK_MIB - 1) * mib)
    with disk.open("wb") as file:
        file.truncate(DISK_MIB << 20)
        file.seek(440)
        file.write(struct.pack("<I2x64sH", DISK_LABEL, partition, 0xAA55))
    processes.run(
        as_root(
            *("mke2fs", "-q", "-F", "-t", "ext4", "-E", "offset=1048576", "-d", root),
            *(disk, f"{DISK_MIB - 1}M"),
        )
    )


def _uncompressed(kernel: bytes) -> bytes:
    """Take the ELF file out of a bzImage: qemu boots it directly, without firmware or initrd.

    The boot protocol's header says where the compressed file is; its last four bytes are its
    uncompressed size, not part of the compressed stream.
    """
    setup_sectors = kernel[0x1F1]
    offset, length = struct.unpack_from("<II", kernel, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    return subprocess.run(
        ["zstd", "-d", "-c"], input=kernel[start : start + length - 4], stdout=-1, check=True
    ).stdout
