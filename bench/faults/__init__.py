"""Where keepalived 2.2.7 was measured to fail: each fault played against keepalived and vrrpd in the same run."""
