"""What vrrpd shows to the outside: SNMP, D-Bus and mail, in a process of their own (docs/adr/0121-outside-process.md)."""
