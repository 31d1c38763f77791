"""Series whose order changes a little from one message to the next."""

from __future__ import annotations

from hypothesis import strategies as st


def change(order: list[int], data: st.DataObject) -> tuple[list[int], list[float]]:
    """Insert, delete or swap one series and rotate the order; return it with values, some zero."""
    kind = data.draw(st.sampled_from(["insert", "delete", "swap", "none"]))
    place, other = data.draw(st.tuples(st.integers(0, 50), st.integers(0, 50)))
    if kind == "insert":
        order.insert(place, 100 + other)
    elif kind == "delete":
        del order[place]
    elif kind == "swap":
        order[place], order[other] = order[other], order[place]
    zeros = data.draw(st.sets(st.integers(0, 60), max_size=10))
    first = data.draw(st.integers(0, 50))
    turned = list(dict.fromkeys(order[first:] + order[:first]))
    return turned, [float(one not in zeros) for one in turned]
