"""Chroma's own configuration."""

from __future__ import annotations

import datetime
import json
from typing import Any

import pytest

from chroma_stack import ChromaVersion, SettingError
from tests.unit.construct import server_template
from tests.unit.synthesis import host_settings


def configured(config: dict[str, Any], **more: Any) -> str:
    return host_settings(server_template(lambda _: {"config": config, **more}))["CHROMA_CONFIG"]


def test_without_a_configuration_the_images_own_holds() -> None:
    assert host_settings(server_template())["CHROMA_CONFIG"] == ""


def test_a_configuration_keeps_what_the_images_own_says() -> None:
    config = json.loads(configured({"allow_reset": True, "sqlitedb": {"hash_type": "sha256"}}))
    assert config == {
        "persist_path": "/data",
        "allow_reset": True,
        "sqlitedb": {"hash_type": "sha256"},
    }


def test_a_configuration_is_one_line_whatever_is_in_it() -> None:
    text = configured({"region": "a\nVERSION=0.6.3\u2028é"})
    assert text.isprintable()
    assert json.loads(text)["region"] == "a\nVERSION=0.6.3\u2028é"


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"persist_path": "/tmp"}, "persist_path.*on the volume"),
        ({"sqlite_filename": "x"}, "sqlite_filename.*on the volume"),
        ({"sqlitedb": {"url": "x"}}, "sqlitedb.url.*on the volume"),
        ({"segment_manager": {"persist_path": "x"}}, "segment_manager.persist_path.*on the volume"),
        ({"port": 80}, "port.*8000"),
        ({"listen_address": "127.0.0.1"}, "listen_address.*connections"),
        ({"open_telemetry": {}}, "open_telemetry.*tracing"),
        ({"cors_allow_origins": ["*"]}, "cors_allow_origins.*property cors_allow_origins"),
        ({"region": float("nan")}, "what JSON can hold"),
        ({"region": datetime.date(2026, 1, 1)}, "what JSON can hold"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_key_that_is_the_servers_own_is_refused_by_the_name_of_its_property(
    config: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(SettingError, match=rf"^config=.*{sentence}"):
        configured(config)


def test_releases_that_read_no_such_file_get_none() -> None:
    with pytest.raises(SettingError, match=r"^config=.*1\.0 or later, which 0\.6\.3 is not"):
        configured({"allow_reset": True}, version=ChromaVersion.V0_6_3)
