"""The lab's domains with MTA-STS: what each publishes, how its policy host behaves, and what a census must find."""

from collections.abc import Mapping
from dataclasses import dataclass

from lab.issue import Leaf

RECORD = '"v=STSv1; id=20261124T100000;"'
POLICY = "version: STSv1\r\nmode: {mode}\r\nmx: {mx}\r\nmax_age: 604800\r\n"


@dataclass(frozen=True, slots=True)
class Sts:
    """One domain. `mta_sts` and `failure` are what its row says, `record` its TXT records in zone form.

    `behaviour` is how the policy host answers: a name of `lab.https.BEHAVIOURS`, `clear-text`, or `nowhere` (it has
    no address) or `refused` (nobody listens). `mx` is the kind of the domain's MX host.
    """

    mta_sts: str
    failure: str | None = None
    behaviour: str = "good"
    body: str = POLICY.format(mode="enforce", mx="{mx}")
    record: tuple[str, ...] = (RECORD,)
    leaf: Leaf = Leaf()  # noqa: RUF009  # frozen
    mx: str = "good"
    fails: bool = False


def _failing(failure: str, behaviour: str = "good", **more: object) -> Sts:
    return Sts("policy-invalid" if failure == "syntax" else "unavailable", failure, behaviour, **more)  # type: ignore[arg-type]  # fields of Sts


STS: Mapping[str, Sts] = {
    "enforce": Sts("enforce"),
    "enforce-private": Sts("enforce", mx="from-private"),
    "enforce-wildcard": Sts("enforce", body=POLICY.format(mode="enforce", mx="*.{parent}")),
    "enforce-mismatch": Sts("enforce-mismatch", body=POLICY.format(mode="enforce", mx="mx.elsewhere.test")),
    "enforce-two-labels": Sts("enforce-mismatch", body=POLICY.format(mode="enforce", mx="*.test")),
    "testing": Sts("testing", body=POLICY.format(mode="testing", mx="{mx}").replace("\r\n", "\n")),
    "testing-mismatch": Sts("testing-mismatch", body=POLICY.format(mode="testing", mx="mx.elsewhere.test")),
    "off": Sts("off", body="version: STSv1\nmode: none\nmax_age: 86400\n"),
    "chunked": Sts("enforce", behaviour="chunked"),
    "redirect": _failing("redirect", "redirect"),
    "missing": _failing("status", "missing"),
    "busy": _failing("status", "busy"),
    "html": _failing("media-type", "html"),
    "endless": _failing("too-large", "endless"),
    "garbage": _failing("malformed", "garbage"),
    "closes": _failing("malformed", "closes"),
    "clear-text": _failing("tls", "clear-text"),
    "no-version": _failing("syntax", body="mode: enforce\nmx: {mx}\nmax_age: 1\n"),
    "no-mx": _failing("syntax", body="version: STSv1\nmode: enforce\nmax_age: 1\n"),
    "page": _failing("syntax", body="<html><body>It works!</body></html>\n"),
    "expired": _failing("certificate-expired", leaf=Leaf(expired=True)),
    "wrong-name": _failing("certificate-name", leaf=Leaf(named="other")),
    "self-signed": _failing("certificate-untrusted", leaf=Leaf(issuer="self")),
    "private": _failing("certificate-untrusted", leaf=Leaf(issuer="private", listed="with-root")),
    "nowhere": _failing("no-address", "nowhere"),
    "refused": _failing("refused", "refused"),
    "no-id": Sts("record-invalid", record=('"v=STSv1;"',)),
    "two-records": Sts("record-invalid", record=(RECORD, '"v=STSv1; id=2;"')),
    "other-texts": Sts("enforce", record=('"v=spf1 -all"', RECORD, '"v=STSv10; id=1;"')),
    "other-version": Sts("none", record=('"v=STSv2; id=1;"',)),
    "bogus": Sts("record-error", fails=True),
}
