"""A property: where cryptography's own X.509 verifier accepts a certificate, the path builder has a path.

Hierarchies are drawn: CAs that certify one another at random, some constrained in pathLen, names or usages, some
expired. The verifier may refuse what has a path here (it judges time, key usage profiles and
more); the other way round is a fault.
"""

from datetime import timedelta

from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
from hierarchies import CLIENT, SERVER, START, certificates, intermediate, issue, key, root
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from scanner.paths import Pool

NOW = START + timedelta(days=60)
HOST = "mx.example.com"


@st.composite
def hierarchies(draw):
    """Two roots, some CAs with random issuers among those before them, cross-signs, and one leaf."""
    authorities = [root("R0", 20, path_length=draw(st.sampled_from([None, 1, 2]))), root("R1", 21)]
    for _ in range(draw(st.integers(1, 5))):
        by = draw(st.sampled_from(authorities))
        number = draw(st.integers(22, 25))  # few keys and names, so that they come again: cross-signs and loops
        constraints = draw(
            st.sampled_from(
                [
                    None,
                    None,
                    None,
                    x509.NameConstraints([x509.DNSName("example.com")], None),
                    x509.NameConstraints(None, [x509.DNSName("example.com")]),
                ]
            )
        )
        authorities.append(
            intermediate(
                by,
                f"CA{number}",
                number,
                path_length=draw(st.sampled_from([None, None, 0, 1])),
                constraints=constraints,
                eku=draw(st.sampled_from([None, (SERVER,), (CLIENT,)])),
                days=draw(st.sampled_from([30, 1000, 1000])),
            )
        )
    end = issue(
        "mx",
        draw(st.sampled_from(authorities)),
        private_key=key(30),
        eku=draw(st.sampled_from([(SERVER,), (SERVER, CLIENT)])),
        dns=(HOST,),
        days=90,
    )
    return authorities, end


def accepts(roots, middles, end):
    """Whether the verifier builds a chain to one of the roots."""
    builder = PolicyBuilder().store(Store([load(item) for item in roots])).time(NOW)
    try:
        builder.build_server_verifier(x509.DNSName(HOST)).verify(load(end), [load(item) for item in middles])
    except VerificationError:
        return False
    return True


def load(issued):
    return x509.load_der_x509_certificate(issued.certificate.der)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(hierarchies(), st.randoms(use_true_random=False))
def test_where_the_library_accepts_there_is_a_path(drawn, shuffle):
    authorities, end = drawn
    roots, middles = authorities[:2], authorities[2:]
    shuffle.shuffle(middles)
    for trusted in ([roots[0]], [roots[1]], roots):
        others = [item for item in (*roots, *middles) if item not in trusted]
        pool = Pool(certificates(*trusted), certificates(*others))
        reached = {route.anchor for route in pool.find(end.certificate).routes} & {item.sha256 for item in trusted}
        accepted = accepts(trusted, middles, end)
        event(f"library {accepted}, here {bool(reached)}")
        assert reached or not accepted
        if accepted:
            listed = [end.certificate, *certificates(*middles)]
            assert pool.reaches(listed, {item.sha256 for item in trusted})


def test_the_property_is_not_empty():
    """The library accepts an ordinary hierarchy by these settings, and refuses one that is broken."""
    top = root("R0", 20)
    middle = intermediate(top, "CA22", 22)
    end = issue("mx", middle, private_key=key(30), eku=(SERVER,), dns=(HOST,), days=90)
    assert accepts([top], [middle], end)
    assert not accepts([top], [], end)
