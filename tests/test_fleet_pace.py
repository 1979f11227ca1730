"""What workers share of an operator, and of an address: pure, with times as numbers."""

from datetime import UTC, datetime, timedelta

import pytest

pytest.importorskip("procrastinate", reason="NOT TESTED: the extra fleet is not installed")

from mxcensus.fleet.jobs import ROUTE_PRIORITY, STEWARD_PRIORITY, address_priority
from mxcensus.fleet.pace import PATIENCE, Operator
from scanner.ledger import Work
from scanner.pace import Limits
from scanner.records import Endpoint
from storage.due import AddressWork

LIMITS = Limits()
AT = datetime(2026, 3, 1, tzinfo=UTC)


def test_a_session_begins_when_a_lease_is_free_and_the_spacing_has_passed():
    operator = Operator("example.org")
    assert operator.enter("a", 100, LIMITS, longest=300) == 100
    assert operator.enter("b", 100, LIMITS, longest=300) == 101
    assert operator.enter("c", 100, LIMITS, longest=300) == 102
    assert operator.enter("d", 100, LIMITS, longest=300) is None  # its start is further away than patience
    assert operator.enter("d", 100 + PATIENCE, LIMITS, longest=300) == 103
    assert operator.enter("e", 110, LIMITS, longest=300) is None  # four at once
    operator.leave("b", 111)
    assert operator.enter("e", 111, LIMITS, longest=300) == 111


def test_who_asks_again_gets_the_same_lease():
    operator = Operator("example.org")
    assert operator.enter("a", 100, LIMITS, longest=300) == operator.enter("a", 105, LIMITS, longest=300)
    assert len(operator.leases) == 1


def test_the_lease_of_a_dead_worker_ends_by_itself():
    operator = Operator("example.org")
    for number in range(4):
        operator.enter(str(number), 100 + number, LIMITS, longest=300)
    assert operator.enter("new", 399, LIMITS, longest=300) is None
    assert operator.enter("new", 401, LIMITS, longest=300) == 401


def test_tickets_are_as_far_apart_as_starts_can_be():
    operator = Operator("example.org", session=3)
    assert [operator.ticket(100, LIMITS) for _ in range(3)] == [100, 101, 102]
    slow = Operator("example.net", session=20)
    assert [slow.ticket(100, LIMITS) for _ in range(3)] == [100, 105, 110]


def test_sessions_that_take_longer_make_tickets_rarer():
    operator = Operator("example.org")
    for number in range(40):
        operator.enter(str(number), 100.0 * number, LIMITS, longest=300)
        operator.leave(str(number), 100.0 * number + 20)
    assert operator.session == pytest.approx(20, abs=0.5)


def test_blocked_twice_in_one_scan_stops_that_scan_only():
    operator = Operator("example.org", blocked={"1": 2, "2": 1})
    assert operator.is_stopped(1)
    assert not operator.is_stopped(2)


def test_leading_comes_before_routing_and_both_before_sessions():
    addresses = {address_priority(f"192.0.2.{number}") for number in range(256)}
    assert len(addresses) == 256
    assert -(2**31) <= min(addresses) <= max(addresses) < ROUTE_PRIORITY < STEWARD_PRIORITY


def address(**values):
    work = Work(Endpoint("mail.example.org", "192.0.2.1", 25), 1, values.pop("not_before", None))
    return AddressWork((work,), **{"left_at": None, "cut_off_at": None, "refusals": 0} | values)


@pytest.mark.parametrize(
    ("state", "seconds"),
    [
        (address(left_at=AT), 60),
        (address(cut_off_at=AT), 300 + 60),
        (address(left_at=AT, not_before=AT + timedelta(seconds=900)), 900),
        (address(left_at=AT, not_before=AT - timedelta(seconds=900)), 60),
    ],
)
def test_an_address_is_free_when_interval_and_parking_have_passed(state, seconds):
    assert state.free_at(interval=60, longest=300) == AT + timedelta(seconds=seconds)


def test_an_address_that_nobody_contacted_is_free():
    assert address().free_at(interval=60, longest=300) is None
