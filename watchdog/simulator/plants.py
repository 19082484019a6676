"""Planted bugs: each overrides a small policy method of a core, and each must be caught by a checker."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from watchdog.config.model import BrainSettings
from watchdog.judgement.watcher import WatcherCore


@dataclass(frozen=True, slots=True)
class Plant:
    """A bug: what it is, and the core that has it."""

    name: str
    about: str
    factory: Callable[[BrainSettings, bytes, random.Random], WatcherCore]


PLANTS: dict[str, Plant] = {}
