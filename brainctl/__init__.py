"""brainctl"""
