"""Reads the key files of auth_hmac, for the daemon only: nobody else needs to hold the secrets."""

from __future__ import annotations

import os
import stat
from dataclasses import replace

from base.diagnostics import Diagnostics
from vrrp.config.model.configuration import VrrpConfig
from vrrp.config.model.instance import HmacKey, VrrpInstance
from vrrp.config.tables.hmac import MAX_KEY_BYTES, MIN_KEY_BYTES, key_bytes

_LARGEST_FILE = len("hex:") + 2 * MAX_KEY_BYTES + 8


def with_hmac_keys(diagnostics: Diagnostics, config: VrrpConfig) -> VrrpConfig:
    """``config`` with the secret of every ``key ID file:PATH`` in it; a file that cannot be used is an error.

    As keepalived reads it: what would stand in the line, ``hex:DIGITS`` or text, and line ends after it do not count. Stricter: a file
    that group or others can read is refused.
    """
    if not any(model.hmac is not None for model in config.instances):
        return config
    return replace(config, instances=tuple(_with_keys(diagnostics, model) for model in config.instances))


def _with_keys(diagnostics: Diagnostics, model: VrrpInstance) -> VrrpInstance:
    if model.hmac is None:
        return model
    keys = tuple(_read(diagnostics, model, key) if key.file else key for key in model.hmac.keys)
    return replace(model, hmac=replace(model.hmac, keys=keys))


def _read(diagnostics: Diagnostics, model: VrrpInstance, key: HmacKey) -> HmacKey:
    def refuse(what: str, remedy: str) -> HmacKey:
        where = model.position_of("auth_hmac")
        diagnostics.error(where, f"{model.name}: the file {key.file} of key {key.key_id} {what}", remedy, "secret-file")
        return key

    try:
        descriptor = os.open(key.file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                return refuse("is no regular file", "name a file that holds the key")
            if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                return refuse("can be read by others", f"chmod 600 {key.file}")
            data = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        return refuse(f"cannot be read: {error.strerror}", "correct the path or the permissions")
    secret = key_bytes(data.rstrip(b"\r\n").decode("utf-8", "surrogateescape"))
    if secret is None or not MIN_KEY_BYTES <= len(secret) <= MAX_KEY_BYTES:
        return refuse(
            "holds no key", f"write hex: and 2 digits for each of {MIN_KEY_BYTES} to {MAX_KEY_BYTES} bytes, or as many characters"
        )
    return replace(key, secret=secret)
