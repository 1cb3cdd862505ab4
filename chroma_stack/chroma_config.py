"""Chroma's own configuration, for what this package has no property for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from chroma_stack.errors import SettingError
from chroma_stack.version import ChromaVersion

_IMAGE_CONFIG = {"persist_path": "/data"}
"""What ``/config.yaml`` of the official image holds, which ours takes the place of:
https://github.com/chroma-core/chroma/blob/1.5.9/rust/frontend/sample_configs/docker_single_node.yaml"""

_DATA = "left out: the data is in chroma.sqlite3 and beside it on the volume"
_OURS = {
    "persist_path": _DATA,
    "sqlite_filename": _DATA,
    "sqlitedb.url": _DATA,
    "segment_manager.persist_path": _DATA,
    "port": "left out: Chroma listens behind the server's proxy, whose port is 8000",
    "listen_address": "left out: who reaches the server is what security_groups and "
    "connections say",
    "open_telemetry": "left out: the property tracing says where traces go",
    "cors_allow_origins": "left out: there is a property cors_allow_origins",
}
"""Keys that the instance sets or relies on, and what to do instead."""


def host_setting(config: Mapping[str, Any] | None, version: ChromaVersion) -> str:
    """What ``host/boot`` writes to ``/config.yaml`` of the container: JSON on one line, which
    is YAML too. Empty without a configuration: the image's own holds then.

    :raises SettingError: when a key is ours, a value is none that a file can hold, or the
        release reads no such file.
    """
    if config is None:
        return ""
    if str(version).startswith("0."):
        raise SettingError("config", dict(config), f"version 1.0 or later, which {version} is not")
    for path, instead in _OURS.items():
        if _holds(config, path):
            raise SettingError("config", path, instead)
    try:
        return json.dumps({**_IMAGE_CONFIG, **config}, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise SettingError("config", config, f"what JSON can hold ({error})") from None


def _holds(config: Mapping[str, Any], path: str) -> bool:
    value: object = config
    for key in path.split("."):
        if not isinstance(value, Mapping) or key not in value:
            return False
        value = value[key]
    return True
