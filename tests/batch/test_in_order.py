"""Outcomes are ready in any order and leave in the order of their jobs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from clipcount_cli.batch.in_order import InOrder


@given(st.permutations(range(6)))
def test_items_leave_in_the_order_they_started(finishing):
    order: InOrder[int] = InOrder()
    places = [order.start() for _ in finishing]

    left: list[int] = []
    for place in finishing:
        order.finish(place, place)
        left += order.leaving()
        assert order.inside == len(places) - len(left)

    assert left == places


def test_items_that_will_never_finish_hold_nobody_up():
    order: InOrder[str] = InOrder()
    for _ in range(4):
        order.start()
    order.finish(0, "first")
    order.finish(1, "second")

    order.cut(3)
    order.cut(2)

    assert list(order.leaving()) == ["first", "second"]
    assert order.inside == 0
