"""Plays sound to a peer's server at live speed and notes when which text was final.

Runs in the peer's own environment and imports nothing of ours:

    python peers_client.py whisperlive|whisperlivekit PORT SOUND.s16le

Prints one JSON object: `events` are [seconds since the sound began, all final text so far].
"""

import asyncio
import json
import sys
import time
import uuid
from array import array
from pathlib import Path

import websockets

RATE = 16_000
CHUNK_S = 0.25
PATIENCE_S = 20.0


async def main(peer, port, sound):
    pcm = Path(sound).read_bytes()
    talk = whisperlive if peer == "whisperlive" else whisperlivekit
    events = []
    url = f"ws://127.0.0.1:{port}" + ("" if peer == "whisperlive" else "/asr?language=zh")
    async with websockets.connect(url, max_size=None, ping_interval=None) as socket:
        began = await talk(socket, pcm, events)
    print(json.dumps({"began": began, "events": events}))


async def play(socket, pcm, encode, began):
    step = int(CHUNK_S * RATE) * 2
    for number, at in enumerate(range(0, len(pcm), step)):
        wait = began + (number + 1) * CHUNK_S - time.time()
        if wait > 0:
            await asyncio.sleep(wait)
        await socket.send(encode(pcm[at : at + step]))


def as_float32(chunk):
    samples = array("h", chunk)
    return array("f", (sample / 32768 for sample in samples)).tobytes()


async def whisperlive(socket, pcm, events):
    options = {"uid": str(uuid.uuid4()), "language": "zh", "task": "transcribe", "model": "base"}
    options |= {"use_vad": True, "send_last_n_segments": 10}
    await socket.send(json.dumps(options))
    while "SERVER_READY" not in await asyncio.wait_for(socket.recv(), 120):
        pass
    began = time.time()
    final = {}

    async def listen():
        async for message in socket:
            for segment in json.loads(message).get("segments", []):
                if segment.get("completed"):
                    final[float(segment["start"])] = segment["text"]
            text = "".join(final[start] for start in sorted(final))
            if not events or events[-1][1] != text:
                events.append([time.time() - began, text])

    listening = asyncio.create_task(listen())
    await play(socket, pcm, as_float32, began)
    await settle(events, began)
    listening.cancel()
    return began


async def whisperlivekit(socket, pcm, events):
    await asyncio.wait_for(socket.recv(), 120)
    began = time.time()

    async def listen():
        async for message in socket:
            said = json.loads(message)
            if said.get("type") == "ready_to_stop":
                return
            text = "".join(line.get("text") or "" for line in said.get("lines", []))
            if not events or events[-1][1] != text:
                events.append([time.time() - began, text])

    listening = asyncio.create_task(listen())
    await play(socket, pcm, bytes, began)
    await socket.send(b"")
    await settle(events, began)
    listening.cancel()
    return began


async def settle(events, began):
    """Until nothing new has come for a while."""
    ended = time.time() - began
    while time.time() - began - max(ended, events[-1][0] if events else 0) < PATIENCE_S:
        await asyncio.sleep(0.5)


asyncio.run(main(*sys.argv[1:]))
