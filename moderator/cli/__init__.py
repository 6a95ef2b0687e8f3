"""The `moderator` command. stdout carries the result alone; the rest goes to stderr.

One module a group of commands; importing it adds the commands to the application.
"""

from __future__ import annotations

from moderator.cli import check, doctor, journal, models, plan, replay, rules, serve, watch
from moderator.cli.application import app, main
from moderator.cli.check import FailOn, Format

__all__ = [
    "FailOn",
    "Format",
    "app",
    "check",
    "doctor",
    "journal",
    "main",
    "models",
    "plan",
    "replay",
    "rules",
    "serve",
    "watch",
]
