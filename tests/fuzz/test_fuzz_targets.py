"""Every target of the endless fuzzer, for a moment and with a fixed seed."""

from random import Random

import pytest

from tests.fuzz.mutations import mutate
from tests.fuzz.targets import TARGETS

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_parser_refuses_or_takes_whatever_comes(name):
    target, chance = TARGETS[name], Random(name)
    for number in range(1_500):
        seed = target.seeds[number % len(target.seeds)]
        data = seed if number < len(target.seeds) else mutate(seed, chance, target.seeds)
        try:
            target.run(data)
        except target.allowed:
            continue
