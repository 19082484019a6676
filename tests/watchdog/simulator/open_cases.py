"""Cases of test_cases.py that main does not pass yet, and the member whose part mends each (only while they are being mended).

A case that passes makes its test fail until its line here is deleted; the list is empty at the end of the session.
"""

OPEN: dict[str, str] = {
    "J2b": "health",
    "J5b": "health",
    "T9": "health",
}
