"""Settings that the emulator does not imitate: refused where the server would differ, else named."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import aws_cdk.aws_ec2 as ec2

from chroma_stack import instance
from chroma_stack.context import SETTINGS
from chroma_stack.errors import SettingError

_NO_OTHER_SECRET = "not here: the account has no secrets but the stack's own"
_NO_NAMES = "not here: there is no DNS, and no certificate authority to ask"
_NO_SNAPSHOTS = "not here: the data is in the folder of --data, and there are no snapshots"
_NO_NETWORK = "not here: there is no network but the stack's own"

_REFUSED: Mapping[str, str] = {
    "acmeBindingSecretArn": _NO_OTHER_SECRET,
    "acmeDirectory": _NO_NAMES,
    "acmeEmail": _NO_NAMES,
    "authSecretArn": _NO_OTHER_SECRET,
    "availabilityZone": _NO_NETWORK,
    "domainName": _NO_NAMES,
    "hostedZoneId": _NO_NAMES,
    "image": "not here: the machine can pull nothing but Chroma's own image",
    "imageId": "not here: the machine's system is Debian 13 whatever the AMI",
    "maxVolumeSize": "not here: the machine's disk does not grow while it is in use",
    "otelCollectionEndpoint": "not here: the machine reaches nothing outside",
    "otelHeadersSecretArn": _NO_OTHER_SECRET,
    "snapshotId": _NO_SNAPSHOTS,
    "subnetType": _NO_NETWORK,
    "tlsCertificateSecretArn": _NO_OTHER_SECRET,
    "volumeId": _NO_SNAPSHOTS,
    "vpcId": _NO_NETWORK,
}

IMITATED = frozenset(
    {
        "auth",
        "authTokenHeader",
        "chromaVersion",
        "containerCidr",
        "corsAllowOrigins",
        "monitoring",
        "stackName",
        "startEmpty",
        "tls",
        "users",
        "volumeSize",
    }
)
"""Settings of which the server here is as on AWS."""

_NAMED: Mapping[str, str] = {
    "alarmEmail": "no alarm is evaluated, and no message sent",
    "allowedCidr": "security groups have no effect: the port is on this computer's loopback alone",
    "backupCopyKeyArn": "no snapshots are taken",
    "backupCopyRegion": "no snapshots are taken",
    "backupRetentionDays": "no snapshots are taken",
    "backupSchedule": "no snapshots are taken",
    "dashboard": "nothing shows it",
    "deletionProtection": "the account ends with the emulator, and the data stays",
    "keyName": "there is no SSH: see --machine-shell",
    "logRetentionDays": "the logs are kept until the emulator ends",
    "maintenanceWindow": "no schedule starts anything",
    "otelCaCertificate": "no traces are collected",
    "otelCollectionHeaders": "no traces are collected",
    "otelGranularity": "no traces are collected",
    "otelServiceName": "no traces are collected",
    "rootVolumeSize": "the machine's root disk has 8 GiB",
    "scheduleTimeZone": "no schedule starts anything",
    "sshCidr": "there is no SSH: see --machine-shell",
    "startSchedule": "no schedule starts anything",
    "stopSchedule": "no schedule starts anything",
    "unattendedSecurityUpdates": "there are no updates",
    "volumeIops": "the volume is as fast as this computer's disk",
    "volumeThroughput": "the volume is as fast as this computer's disk",
}


_HIDDEN = frozenset(setting.key for setting in SETTINGS if setting.hidden)


def refuse(settings: Mapping[str, str]) -> None:
    """Refuse what the emulator does not imitate.

    :param settings: context values by their keys.
    :raises SettingError: when there is such a setting.
    """
    for key in settings:
        if key in _REFUSED:
            raise SettingError(key, settings[key], _REFUSED[key])
    version = settings.get("chromaVersion", "1")
    if re.match(r"0\.", version):
        raise SettingError(
            "chromaVersion",
            version,
            "1.0.0 or later here: images are made of the Rust server's package",
        )
    kind = settings.get("instanceType")
    if kind and re.fullmatch(r"[a-z0-9-]+\.[a-z0-9-]+", kind):
        of_type = instance.architecture(ec2.InstanceType(kind))
        if of_type is ec2.InstanceArchitecture.ARM_64:
            raise SettingError("instanceType", kind, "an x86-64 type here: there is no Graviton")


def named(settings: Mapping[str, str]) -> Iterator[str]:
    """What of the settings has no effect, a sentence for each.

    :param settings: context values by their keys.
    """
    if "instanceType" in settings:
        yield f"instanceType={settings['instanceType']}: the machine has 2 GiB of memory whatever the type"
    for key, reason in _NAMED.items():
        if key in settings:
            yield f"{key}={'…' if key in _HIDDEN else settings[key]}: {reason}"
