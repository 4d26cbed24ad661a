"""Certificates: until when one is good. Pure: bytes in, an instant out.

Only the way to that field is read (X.509, RFC 5280 section 4.1; DER, X.690 section 8.1), for Python's ssl tells nothing of a
certificate that it did not check.
"""

from datetime import UTC, datetime

SEQUENCE, VERSION, UTC_TIME, GENERALIZED_TIME = 0x30, 0xA0, 0x17, 0x18  # X.680 section 8.6; the version's tag is explicit, [0]
BEFORE_VALIDITY = 3  # serial number, signature algorithm, issuer
CENTURY = 50  # a year of two digits from this on is in the last century: RFC 5280 section 4.1.2.5.1


def ends_at(certificate: bytes) -> float:
    """Return the unix seconds after which a certificate, in DER form, isn't good any more; raise ValueError where it is none."""
    try:
        return _ends_at(certificate)
    except (IndexError, UnicodeDecodeError, OverflowError) as exc:
        raise ValueError("expected a certificate") from exc


def _ends_at(certificate: bytes) -> float:
    outer, _ = _inside(certificate, SEQUENCE)
    fields, _ = _inside(outer, SEQUENCE)
    if fields[0] == VERSION:
        fields = _element(fields)[2]
    for _ in range(BEFORE_VALIDITY):
        fields = _element(fields)[2]
    validity, _ = _inside(fields, SEQUENCE)
    kind, text, _ = _element(_element(validity)[2])
    return _instant(kind, text.decode("ascii"))


def _instant(kind: int, text: str) -> float:
    if kind not in (UTC_TIME, GENERALIZED_TIME):
        raise ValueError("expected an instant")
    if kind == UTC_TIME:
        text = ("19" if int(text[:2]) >= CENTURY else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _inside(data: bytes, expected: int) -> tuple[bytes, bytes]:
    kind, content, rest = _element(data)
    if kind != expected:
        raise ValueError("expected a certificate")
    return content, rest


def _element(data: bytes) -> tuple[int, bytes, bytes]:
    """Return the tag and the content of the first element, and what comes after it."""
    kind, length, begin = data[0], data[1], 2
    if length & 0x80:
        begin += length & 0x7F
        length = int.from_bytes(data[2:begin], "big")
    if begin + length > len(data):
        raise ValueError("expected a certificate, and this one is cut off")
    return kind, data[begin : begin + length], data[begin + length :]
