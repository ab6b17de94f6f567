import pytest

from relay.primitives.endpoint import Endpoint
from relay.relaying.witnesses import Poll, Question, group_of
from tests.aids.chain_headers import made_chain
from tests.aids.range_peers import ONION, Peers
from tests.aids.relaying import RecordingSession

MAIN = made_chain(30)
FORK = MAIN[:20] + made_chain(15, MAIN[19], b"fork")


def group(host, inbound=False, port=30303):
    where = None if host is None else Endpoint.parse(host, port)
    return group_of(RecordingSession(endpoint=where, inbound=inbound))


def test_peers_of_one_net_are_one_group_however_they_came():
    assert group("80.1.2.3") == group("80.1.255.9", inbound=True) == "80.1.0.0/16"
    assert group("80.2.2.3") == "80.2.0.0/16"
    assert group("2a01:4f8:1::1") == group("2a01:4f8:ffff::7") == "2a01:4f8::/32"


def test_an_onion_is_its_own_group_only_if_we_dialed_it():
    onion = "pg6mmjiyjmcrsslvykfwnntlaru7p5svn6y2ymmju6nubxndf4pscryd.onion"
    assert group(onion) == group(onion, port=9) == onion
    assert group(None, inbound=True) is None
    assert ONION not in onion


def test_a_name_and_a_private_address_are_their_own_groups_if_we_dialed_them():
    assert group("node.example.org") == "node.example.org"
    assert group("127.0.0.1", port=1) != group("127.0.0.1", port=2)
    assert group("127.0.0.1", inbound=True, port=1) == group("127.0.0.9", inbound=True, port=2)


def ask(peers, question, members, **options):
    found = []
    poll = Poll(peers, question, [each.peer for each in members], found.append, **options)
    poll.start()
    peers.loop.advance(100)
    (run,) = found
    assert peers.under_way == 0
    return [each.number for each in run], run


def test_two_groups_that_agree_settle_it_and_nobody_else_is_asked():
    peers = Peers(MAIN[0].hash)
    members = [peers.join(MAIN, number) for number in range(4)]
    numbers, _ = ask(peers, Question(3, 5), members)
    assert numbers == [3, 4, 5, 6, 7]
    assert len(peers.questions) == 2


def test_what_both_say_counts():
    peers = Peers(MAIN[0].hash)
    members = [peers.join(MAIN, 1), peers.join(FORK, 2)]
    assert ask(peers, Question(15, 20), members)[0] == [15, 16, 17, 18, 19]
    members = [peers.join(MAIN[:22], 1), peers.join(MAIN, 2)]
    assert ask(peers, Question(15, 20), members)[0] == [15, 16, 17, 18, 19, 20, 21]


def test_peers_of_one_group_or_of_none_are_not_enough():
    peers = Peers(MAIN[0].hash)
    members = [peers.join(MAIN, 1), peers.join(MAIN, 1), peers.join(MAIN, None, inbound=True)]
    assert ask(peers, Question(3, 5), members)[0] == []
    assert len(peers.questions) == 3


@pytest.mark.parametrize("mood", ["empty", "silent", "garbage", "unlinked", "other"])
def test_another_is_asked_in_place_of_who_fails(mood):
    peers = Peers(MAIN[0].hash)
    members = [peers.join(MAIN, 1, mood=mood), peers.join(MAIN, 2), peers.join(MAIN, 3)]
    assert ask(peers, Question(3, 5), members)[0] == [3, 4, 5, 6, 7]
    members = [peers.join(MAIN, 1, mood=mood), peers.join(MAIN, 2, mood=mood)]
    assert ask(peers, Question(3, 5), members)[0] == []


@pytest.mark.parametrize("delay", [0.0, 0.1])
def test_nobody_to_ask_and_answers_within_the_call_settle_it_once(delay):
    peers = Peers(MAIN[0].hash)
    assert ask(peers, Question(3, 5), [])[0] == []
    members = [peers.join(MAIN, number, delay=delay, mood="empty") for number in range(3)]
    assert ask(peers, Question(3, 5), members)[0] == []
    members = [peers.join(MAIN, number, delay=delay) for number in range(3)]
    assert ask(peers, Question(3, 5), members)[0] == [3, 4, 5, 6, 7]


def test_a_trusted_peer_settles_it_alone():
    peers = Peers(MAIN[0].hash)
    members = [peers.join(FORK, None, trusted=True, inbound=True, delay=3.0)]
    members += [peers.join(MAIN, number) for number in (1, 2, 3)]
    _, run = ask(peers, Question(25, 5), members)
    assert list(run) == FORK[25:30]


def test_without_an_answer_of_the_trusted_peer_two_others_settle_it():
    peers = Peers(MAIN[0].hash)
    members = [peers.join(MAIN[:10], None, trusted=True, delay=3.0)]
    members += [peers.join(MAIN, number) for number in (1, 2, 3)]
    assert ask(peers, Question(25, 5), members)[0] == [25, 26, 27, 28, 29]


def test_where_the_question_names_what_is_right_one_answer_is_enough():
    peers = Peers(MAIN[0].hash)
    members = [peers.join(FORK, 1), peers.join(MAIN, None, inbound=True), peers.join(MAIN, 3)]
    question = Question(MAIN[25].hash, 4, reverse=True)
    assert ask(peers, question, members, alone=True)[0] == [22, 23, 24, 25]


def test_answers_that_come_when_it_is_settled_change_nothing():
    peers = Peers(MAIN[0].hash)
    members = [peers.join(MAIN, 1), peers.join(MAIN, 2, delay=9.0), peers.join(MAIN, 3, mood="empty")]
    members.append(peers.join(MAIN, 4, trusted=True))
    found = []
    Poll(peers, Question(3, 5), [members[1].peer, members[3].peer], found.append).start()
    peers.loop.advance(100)
    assert len(found) == 1
