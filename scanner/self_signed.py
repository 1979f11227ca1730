"""Self-signed certificates that software makes for itself, told by a table.

Many carry serverAuth and clientAuth only because a tool's default says so; counted apart, they do not inflate the
number of certificates that somebody made for both roles.
"""

from scanner.records import Certificate


def recognise(certificate: Certificate) -> str | None:
    """The id of the software whose self-signed default this looks like, or None."""
    _ = certificate
    return None
