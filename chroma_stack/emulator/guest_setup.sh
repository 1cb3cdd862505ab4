#!/bin/bash
# Turns a fresh Debian tree (first argument) into the guest: guest.py runs it through mmdebstrap
# after the packages and the files of guest_root are in place.
set -euo pipefail
root=$1

chroot "$root" update-ca-certificates > /dev/null 2>&1

# Names that the user data uses; everything else fails to resolve, at once.
cat > "$root/etc/hosts" << 'EOF'
127.0.0.1 localhost
169.254.169.254 ghcr.io registry-1.docker.io auth.docker.io otel.rig.test
EOF
echo 'nameserver 127.0.0.1' > "$root/etc/resolv.conf"
echo '/dev/root / ext4 defaults 0 0' > "$root/etc/fstab"
echo localhost > "$root/etc/hostname"
: > "$root/etc/machine-id" # empty, not "uninitialized": no first boot that presets every unit

# As on Amazon Linux: what dnf has not installed is not there, and what it installs does not
# start by itself.
declare -A programs=([docker]="docker dockerd" [haproxy]="haproxy")
for package in "${!programs[@]}"; do
  mkdir -p "$root/usr/lib/rig/packages/$package"
  for program in ${programs[$package]}; do
    mv "$(find "$root/usr/bin" "$root/usr/sbin" -name "$program")" "$root/usr/lib/rig/packages/$package/"
  done
done
systemctl --quiet --root="$root" disable containerd.service docker.service docker.socket haproxy.service

# What only costs emulated seconds.
systemctl --quiet --root="$root" disable \
  apt-daily.timer apt-daily-upgrade.timer cloud-init-hotplugd.socket dpkg-db-backup.timer \
  e2scrub_all.timer e2scrub_reap.service fstrim.timer getty@tty1.service
systemctl --quiet --root="$root" mask \
  apparmor.service ldconfig.service serial-getty@ttyS0.service systemd-hwdb-update.service \
  systemd-binfmt.service systemd-journal-catalog-update.service \
  systemd-pstore.service systemd-update-done.service
systemctl --quiet --root="$root" enable aws.socket systemd-networkd.service

rm -rf "$root"/boot/initrd* "$root/initrd.img"* "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*
