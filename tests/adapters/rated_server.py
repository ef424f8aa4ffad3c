"""A server whose episodes are made straight in the store: what is said of answers needs none to be searched for."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI

from kaelum_flow.facade import Kaelum
from kaelum_graph.types import EpisodeId


def keep_episode(kaelum: Kaelum, *, tenant: str = "", **answer: Any) -> EpisodeId:
    """An episode as a search leaves it, as far as its reader goes."""
    episode_id = EpisodeId(uuid.uuid4().hex)
    cost = {"prompt_tokens": 10, "completion_tokens": 5}
    record = {"answer": {"id": episode_id, "text": "It is 4.", "cost": cost, **answer}, "options": {}}
    kaelum.services.storage.append_episode(episode_id, "What is 2 + 2?", record, tenant=tenant)
    return episode_id


@contextmanager
def on_loopback(app: FastAPI) -> Generator[str]:
    """The address of `app`, served by uvicorn in a thread."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        for _ in range(500):
            if server.started:
                break
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(timeout=10)
