"""Live rooms: many streams, one set of models, records within seconds.

    feed ─┬─ sound ─> SpeechWorker (one engine, all rooms) ─┐
          └─ frames ─> ScreenWorker (one reader, all rooms) ─┴─> RoomSession ─> journal ─> sinks

`supervisor` runs the rooms; `speech` and `screen` own the models; `session` is one room's way
from observations to records. What decides who is served when (`queues`, `degrade`, `alerts`) is
free of engines, threads and clocks, so that it can be tested by itself.
"""
