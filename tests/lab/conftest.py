"""Fixtures of the real lab: started once, in the one worker that runs the group lab-real."""

import os

import openssl
import pytest
import world

from lab.mta.process import loopback_prefix


def need(*reasons):
    """Skip, loudly, or fail where LAB=require says that nothing may be missing."""
    if reasons:
        text = f"the lab cannot run: {', '.join(reasons)}; as root, `make lab` installs it"
        pytest.fail(text) if os.environ.get("LAB") == "require" else pytest.skip(text)


@pytest.fixture(scope="session")
def second_opinion():
    if reason := openssl.missing():
        need(reason)
    return openssl.s_client


@pytest.fixture(scope="session")
def servers():
    need(*world.missing("postfix", "exim"))
    with world.serve_mail() as running:
        yield running


@pytest.fixture(scope="session")
def domain_table(servers):
    return {domain.name: domain for domain in world.domains(servers)}


@pytest.fixture(scope="session")
def names(servers, domain_table):
    need(*world.missing("nsd", "unbound"))
    with world.serve_names(world.zone_texts(servers, domain_table.values()), loopback_prefix()) as running:
        yield running
