"""What an item counts for when an answer is filled."""

import pytest

from relay.relaying.chain_data.demand import ItemQuery, Kind


@pytest.mark.parametrize(
    ("first_index", "place", "counted"), [(0, 0, 3_000_000), (0, 1, 3_000_000), (7, 0, 0), (7, 1, 3_000_000)]
)
def test_of_a_block_whose_first_receipts_are_not_wanted_nothing_is_counted(first_index, place, counted):
    """Counted whole, a block of 3 MB of which the last receipts are asked for ended the answer at once."""
    query = ItemQuery(Kind.RECEIPTS, (b"\x01" * 32, b"\x02" * 32), first_index)
    assert query.size_of(place, bytes(3_000_000)) == counted
