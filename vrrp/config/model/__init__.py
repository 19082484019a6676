"""PURE: keepalived.conf as frozen typed values, defaults resolved as keepalived resolves them.

One file per subject: ``common`` (scripts, families), ``addresses``, ``routing``, ``tracking``, ``instance``,
``daemon`` (global_defs), ``services`` (virtual servers), ``configuration`` (the whole: ``VrrpConfig``).

Durations are ``int`` nanoseconds (``*_ns``), addresses are ``ipaddress`` objects. A ``position`` names the line that
a value came from; it takes no part in equality, so that moving a block within the file is no change on reload.
"""
