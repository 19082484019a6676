"""vrrp"""
