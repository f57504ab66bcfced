"""A store as an event loop uses it."""

import asyncio
from collections.abc import Sequence

from foretell.jobs.ledger import Gathered


def test_calls_that_come_together_share_one_and_a_failure_is_only_its_own() -> None:
    batches = []

    def double(numbers: Sequence[int]) -> list[int]:
        batches.append(len(numbers))
        if 7 in numbers:
            raise ValueError("not seven")
        return [2 * number for number in numbers]

    async def body() -> None:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(1) as threads:
            call = Gathered(double, threads)
            told = await asyncio.gather(*map(call, range(20)), return_exceptions=True)
        assert [each for each in told if isinstance(each, int)] == [2 * number for number in range(20) if number != 7]
        assert isinstance(told[7], ValueError)

    asyncio.run(body())
    assert batches[0] == 1
    assert batches[1] == 19
