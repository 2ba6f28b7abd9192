"""What the program logs: structured on demand, and never a restricted name or any data."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import pytest

from headrace.cli.logs import JsonLine, TextLine, set_up_logs
from headrace_mounts.settings import log_choice
from headrace_namespace.errors import ConfigError
from tests.mounts.command_line import Site, make_site

CANARY = "zanzibar-7f3a"
SECRET = b"the-salary-is-4711"


def record(message: str, *arguments: object, **extra: object) -> logging.LogRecord:
    logger = logging.getLogger("headrace_cache.reading.reader")
    try:
        raise ValueError(CANARY)
    except ValueError:
        return logger.makeRecord(
            logger.name, logging.WARNING, "f", 1, message, arguments, sys.exc_info(), extra=extra
        )


def test_a_line_is_one_json_object() -> None:
    said = json.loads(JsonLine().format(record("%d pages\nlost", 3, mount="/lake")))
    assert set(said) == {"time", "level", "room", "message", "fields"}
    assert said["message"] == "3 pages lost"
    assert said["fields"] == {"mount": "/lake", "error": "ValueError"}
    assert (said["level"], said["room"]) == ("warning", "headrace_cache.reading.reader")
    assert said["time"].endswith("Z")


def test_text_is_one_line_and_shows_no_error_sentence() -> None:
    line = TextLine().format(record("lost", mount="/lake"))
    assert (
        line
        == "headrace: warning: lost mount=/lake error=ValueError (headrace_cache.reading.reader)"
    )


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("", ("warning", "text")),
        ("debug", ("debug", "text")),
        ("JSON, error", ("error", "json")),
    ],
)
def test_the_variable_says_level_and_form(text: str, choice: tuple[str, str]) -> None:
    levels, forms = ("debug", "warning", "error"), ("text", "json")
    assert log_choice(levels, forms, environ={"HEADRACE_LOG": text}) == choice


def test_a_wrong_word_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'loud' is neither"):
        log_choice(("debug",), ("text",), environ={"HEADRACE_LOG": "loud"})
    site = Site(make_site(tmp_path).root, {"HEADRACE_LOG": "loud"})
    assert site.run("ls", "/").returncode == 2
    assert site.run("ls", "/", "--log-level", "loud").returncode == 2


def test_only_our_own_rooms_are_heard(capsys: pytest.CaptureFixture[str]) -> None:
    before = {
        name: (logging.getLogger(name).handlers, logging.getLogger(name).propagate)
        for name in ("headrace", "headrace_mounts", "headrace_cache", "headrace_namespace")
    }
    try:
        set_up_logs("debug", "json")
        logging.getLogger("headrace_cache.reading.reader").debug("ours")
        logging.getLogger("botocore.endpoint").debug("https://bucket/%s", CANARY)
    finally:
        for name, (handlers, propagate) in before.items():
            logger = logging.getLogger(name)
            logger.handlers, logger.propagate = handlers, propagate
            logger.setLevel(logging.NOTSET)
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["message"] == "ours"


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_log_names_what_the_policy_restricts(tmp_path: Path, form: str) -> None:
    site = make_site(tmp_path)
    names = [f"hr/{CANARY}/{CANARY}.csv", f"hr/{CANARY}/other"]
    for name in names:
        site.write(name, SECRET)
    folder, file = f"/gov/hr/{CANARY}", f"/gov/hr/{CANARY}/{CANARY}.csv"
    for arguments in (
        ("ls", "-l", folder),
        ("tree", folder),
        ("cat", file),
        ("cat", "--offset", "3", file),
        ("warm", folder),
        ("why", file),
        ("drop", folder),
        ("cp", file, f"{folder}/copy-{CANARY}"),
        ("mv", f"{folder}/copy-{CANARY}", f"{folder}/moved-{CANARY}"),
        ("rm", "-r", folder),
        ("status",),
    ):
        done = site.run(*arguments, "--log-level", "debug", "--log-format", form)
        assert done.returncode == 0, done.stderr
        assert CANARY.encode() not in done.stderr, arguments
        assert SECRET not in done.stderr
        if form == "json":
            for line in done.stderr.splitlines():
                assert set(json.loads(line)) == {"time", "level", "room", "message", "fields"}
