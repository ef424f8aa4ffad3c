"""An openai-agents program on Kaelum's endpoint. It starts no server: run `kaelum serve` first."""

from __future__ import annotations

import asyncio
import os
import sys

from agents import Agent, ModelSettings, OpenAIChatCompletionsModel, Runner, function_tool, set_tracing_disabled
from openai import APIConnectionError, AsyncOpenAI

URL = os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1")
QUESTION = "How many people live in Norway?"


@function_tool
def population(country: str) -> str:
    """The number of people who live in a country."""
    print(f"  … population({country!r})")
    return {"norway": "5.6 million", "japan": "123 million"}.get(country.lower(), "unknown")


async def ask(url: str, question: str) -> str:
    """What the agent answers. The tracing of openai-agents is off: it would send runs to OpenAI."""
    set_tracing_disabled(True)
    # A key that `kaelum keys add` printed; a server on this machine asks for none unless told to. Not OPENAI_API_KEY:
    # that one is for OpenAI alone, and the address may be anybody's.
    key = os.environ.get("SERVER_KEY", "unused")
    async with AsyncOpenAI(base_url=url, api_key=key) as client:
        agent = Agent(
            name="Clerk",
            instructions="Look numbers up with the tool population.",
            tools=[population],
            model=OpenAIChatCompletionsModel(model="kaelum", openai_client=client),
            model_settings=ModelSettings(extra_body={"reasoning_effort": "low"}),
        )
        return str((await Runner.run(agent, question, max_turns=4)).final_output)


def main(url: str = URL, question: str = QUESTION) -> None:
    try:
        print(asyncio.run(ask(url, question)))
    except APIConnectionError:
        sys.exit(f"No server answers at {url}. Start one with `kaelum serve`, or pass another address.")


if __name__ == "__main__":
    main(*sys.argv[1:3])
