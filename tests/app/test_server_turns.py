"""Turns: so many at once, clients by turns, nobody for ever, and none is lost whatever happens to those who wait."""

import asyncio
import random

import pytest
from fastapi import HTTPException

from visavis.app.server.turns import Turns


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


def test_clients_take_turns_whatever_they_ask():
    async def main():
        turns, order, go_on = Turns(1), [], asyncio.Event()

        async def ask(client):
            async with turns.take(client):
                order.append(client)
                await go_on.wait()

        asked = [asyncio.create_task(ask(client)) for client in "aaaaabbc"]
        await settle()
        assert (order, turns.taken, turns.waiting) == (["a"], 1, 7)
        go_on.set()
        await asyncio.gather(*asked)
        return order, turns.taken, turns.waiting

    assert asyncio.run(main()) == (list("aabcabaa"), 0, 0)


def test_too_many_and_too_patient_are_told_to_come_again():
    async def main():
        turns = Turns(1, waiting=2, patience_s=0.01)
        async with turns.take("a"):
            waiting = [asyncio.create_task(turns.take(client).__aenter__()) for client in "ab"]
            await settle()
            with pytest.raises(HTTPException, match="503: server: expected fewer photos") as refused:
                await turns.take("c").__aenter__()
            assert refused.value.headers == {"Retry-After": "1"}
            ended = await asyncio.gather(*waiting, return_exceptions=True)
        assert [one.status_code for one in ended] == [503, 503]
        assert (turns.refused, turns.waiting, turns.taken) == (3, 0, 0)

    asyncio.run(main())


@pytest.mark.parametrize("seed", range(20))
def test_no_turn_is_lost_or_given_twice(seed):
    pick = random.Random(seed)

    async def main():
        turns, now, most = Turns(3, waiting=10, patience_s=0.005), 0, 0

        async def ask(client):
            nonlocal now, most
            async with turns.take(client):
                now += 1
                most = max(most, now)
                try:
                    await asyncio.sleep(pick.choice((0, 0, 0.001, 0.004)))
                    if pick.random() < 0.2:
                        raise ValueError
                finally:
                    now -= 1

        asked = []
        for _ in range(200):
            asked.append(asyncio.create_task(ask(pick.choice("abcde"))))
            if pick.random() < 0.3:
                pick.choice(asked).cancel()
            await asyncio.sleep(0 if pick.random() < 0.8 else 0.002)
        await asyncio.gather(*asked, return_exceptions=True)
        assert (turns.taken, turns.waiting, now) == (0, 0, 0)
        assert most == 3

    asyncio.run(main())


def test_a_turn_that_comes_as_its_client_gives_up_goes_to_the_next():
    async def main():
        turns = Turns(1)
        holder, *others = (turns.take(client) for client in "abc")
        await holder.__aenter__()
        gone, next_ = (asyncio.create_task(one.__aenter__()) for one in others)
        await settle()
        gone.cancel()
        await holder.__aexit__(None, None, None)  # before the one that gives up has run again
        with pytest.raises(asyncio.CancelledError):
            await gone
        await asyncio.wait_for(next_, 5)
        assert turns.taken == 1

    asyncio.run(main())
