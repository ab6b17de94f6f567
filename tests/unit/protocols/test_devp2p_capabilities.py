"""Which capabilities win, and where their codes begin."""

from hypothesis import given
from hypothesis import strategies as st

from relay.protocols.devp2p.capabilities import BASE_LENGTH, Capability, SharedCapability, negotiate

ETH68, ETH69, ETH71 = Capability("eth", 68, 17), Capability("eth", 69, 18), Capability("eth", 71, 20)
SNAP, AAA = Capability("snap", 1, 8), Capability("aaa", 3, 4)


def test_highest_shared_version_of_a_name_wins():
    shared = negotiate([ETH71, ETH68, ETH69], [ETH68, ETH69, Capability("eth", 70)])
    assert shared == (SharedCapability("eth", 69, 16, 18),)


def test_codes_follow_the_names_and_skip_what_is_not_shared():
    shared = negotiate([SNAP, ETH71, ETH69, AAA], [SNAP, AAA, ETH69, ETH68, Capability("bbb", 1)])
    assert [(each.name, each.version, each.offset) for each in shared] == [
        ("aaa", 3, 16),
        ("eth", 69, 20),
        ("snap", 1, 38),
    ]


def test_case_of_names_matters_and_nothing_may_be_shared():
    assert negotiate([ETH69], [Capability("ETH", 69), Capability("eth", 70)]) == ()


def test_length_of_the_other_side_means_nothing():
    assert negotiate([ETH69], [Capability("eth", 69, 99), Capability("eth", 69, 98)])[0].length == 18


def test_limit_of_a_message_is_ours():
    ours = Capability("eth", 69, 18, max_message=1000)
    assert negotiate([ours], [ETH69])[0].max_message == 1000


names = st.sampled_from(["eth", "snap", "wit", "les"])
capabilities = st.lists(st.builds(Capability, names, st.integers(1, 4)), max_size=12)


@given(ours=capabilities, theirs=capabilities)
def test_both_sides_agree_and_ranges_never_overlap(ours, theirs):
    def with_length(items):
        return [Capability(each.name, each.version, 5 * each.version) for each in items]

    one, other = negotiate(with_length(ours), theirs), negotiate(with_length(theirs), ours)
    assert one == other
    expected = BASE_LENGTH
    for each in one:
        assert each.offset == expected
        expected += each.length
