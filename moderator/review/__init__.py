"""The review console's house: queue, decisions, evidence, accounts, and the API over them.

`app.create_app` builds the server, `client.ModeratorClient` speaks to one, and
`ingest` takes what `moderator check` and `moderator watch` found.
"""
