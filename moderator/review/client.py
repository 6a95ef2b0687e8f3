"""A thin client of the API, for scripts and for other services.

with ModeratorClient("https://console.example", token="lm_…") as client:
    for mark in client.check("家人们，这是国家级的品质")["marks"]:
        print(mark["record"]["explanation"])
    for violation in client.violations(status="open", severity="critical"):
        client.claim(violation["id"])
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from moderator.errors import API_REFUSED, API_UNREACHABLE, ModeratorError

Json = dict[str, Any]

CHUNK_BYTES = 8 << 20


class ApiProblem(ModeratorError):
    """The server said no: `status`, `problem` (RFC 9457), and `problem_code` such as LM-910."""

    def __init__(self, url: str, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.problem = dict(problem)
        self.problem_code = str(problem.get("code", ""))
        detail = f"{status} {self.problem_code} {problem.get('detail', '')}".strip()
        super().__init__(API_REFUSED, url=url, detail=detail)


class ModeratorClient:
    """Speaks to one server. Raises ApiProblem for what it refuses, LM-939 where it is not.

    A POST carries an Idempotency-Key, so that one whose answer was lost is sent again safely.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        timeout_s: float = 30.0,
        attempts: int = 3,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._url = url.rstrip("/")
        self._attempts = attempts
        self._http = httpx.Client(
            base_url=f"{self._url}/api/v1",
            headers={"Authorization": f"Bearer {token}", "Accept": "application/json"},
            timeout=timeout_s,
            transport=transport,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    # --- scripts and recordings -------------------------------------------------------

    def check(self, text: str, *, kind: str = "txt", products: Sequence[str] = ()) -> Json:
        """Check a script; `marks` say what is wrong where, and what to say instead."""
        body = {"text": text, "kind": kind, "products": list(products)}
        return self._json("POST", "/check", json=body)

    def upload(self, path: Path, *, room: str = "local", products: Sequence[str] = ()) -> Json:
        """Send a recording in pieces; returns its job, which goes on by itself."""
        body = {
            "name": path.name,
            "size_bytes": path.stat().st_size,
            "room": room,
            "products": list(products),
        }
        return self.resume(self._json("POST", "/jobs", json=body)["id"], path)

    def resume(self, job_id: str, path: Path) -> Json:
        """Go on with an upload where it stands."""
        job = self.job(job_id)
        with path.open("rb") as file:
            while job["state"] == "uploading":
                offset = job["received_bytes"]
                file.seek(offset)
                job = self._json(
                    "PATCH",
                    f"/jobs/{job_id}/content",
                    content=file.read(CHUNK_BYTES),
                    headers={
                        "Upload-Offset": str(offset),
                        "Content-Type": "application/octet-stream",
                    },
                )
        return job

    def job(self, job_id: str) -> Json:
        return self._json("GET", f"/jobs/{job_id}")

    # --- the queue --------------------------------------------------------------------

    def violations(self, *, sort: str = "risk", page: int = 100, **wanted: Any) -> Iterator[Json]:
        """Every violation that fits the filter of GET /violations, page by page."""
        query = {name: value for name, value in wanted.items() if value is not None}
        cursor: str | None = None
        while True:
            more = {"cursor": cursor} if cursor else {}
            answer = self._json(
                "GET", "/violations", params={**query, "sort": sort, "limit": page, **more}
            )
            yield from answer["items"]
            cursor = answer["next_cursor"]
            if cursor is None:
                return

    def violation(self, violation_id: str) -> Json:
        """One case with everything that a decision needs."""
        return self._json("GET", f"/violations/{violation_id}")

    def counts(self, **wanted: Any) -> dict[str, int]:
        counts: dict[str, int] = self._json("GET", "/violations/counts", params=wanted)["counts"]
        return counts

    def claim(self, violation_id: str) -> Json:
        return self._json("POST", f"/violations/{violation_id}/claim")

    def release(self, violation_id: str) -> Json:
        return self._json("POST", f"/violations/{violation_id}/release")

    def decide(
        self,
        violation_id: str,
        action: str,
        *,
        reason: str = "",
        comment: str = "",
        version: int | None = None,
    ) -> Json:
        """`action` is confirm, dismiss (with a reason), needs_proof, escalate or reopen."""
        body = {"action": action, "reason": reason, "comment": comment, "version": version}
        return self._json("POST", f"/violations/{violation_id}/decisions", json=body)

    def undo(self, violation_id: str) -> Json:
        return self._json("POST", f"/violations/{violation_id}/undo")

    def note(self, violation_id: str, text: str) -> Json:
        return self._json("POST", f"/violations/{violation_id}/notes", json={"text": text})

    def export(self, violation_id: str, to: Path, *, kind: str = "zip") -> Json:
        """Make a case bundle or a PDF and save it to `to`."""
        made = self._json("POST", f"/violations/{violation_id}/exports", json={"kind": kind})
        self._save(f"/exports/{made['id']}", to)
        return made

    def evidence(self, violation_id: str, path: str, to: Path) -> None:
        """Save a clip or frame that the record names."""
        self._save(f"/violations/{violation_id}/evidence/{path}", to)

    # --- in and out -------------------------------------------------------------------

    def ingest(self, records: Sequence[Mapping[str, Any]], room: Json | None = None) -> Json:
        """Hand over violation records; those that are known already are not doubled."""
        body: Json = {"records": [dict(record) for record in records]}
        if room is not None:
            body["room"] = room
        return self._json("POST", "/ingest/violations", json=body)

    def dashboard(self, name: str, **window: Any) -> Json:
        return self._json("GET", f"/dashboards/{name}", params=window)

    def verdicts(self, **window: Any) -> Iterator[Json]:
        """What people judged, as labelled examples."""
        with self._stream("/verdicts", params=window) as response:
            for line in response.iter_lines():
                if line.strip():
                    yield json.loads(line)

    def events(self, after: int | None = None) -> Iterator[tuple[str, Json]]:
        """New and changed violations as they happen: (event, data). Ends with the connection."""
        params = {} if after is None else {"after": after}
        event = ""
        with self._stream("/events", params=params, timeout=None) as response:
            for line in response.iter_lines():
                if line.startswith("event: "):
                    event = line.removeprefix("event: ")
                elif line.startswith("data: ") and event:
                    yield event, json.loads(line.removeprefix("data: "))
                    event = ""

    # --- the wire ---------------------------------------------------------------------

    def _json(self, method: str, path: str, **options: Any) -> Json:
        headers = dict(options.pop("headers", {}))
        if method == "POST":
            headers["Idempotency-Key"] = secrets.token_urlsafe(16)
        for attempt in range(1, self._attempts + 1):
            last = attempt == self._attempts
            try:
                response = self._http.request(method, path, headers=headers, **options)
            except httpx.TransportError as error:
                if last:
                    raise self._unreachable(error) from None
                continue
            if response.status_code == 503 and not last:
                _wait(response)
                continue
            self._check(response)
            body: Json = response.json()
            return body
        raise AssertionError("the last attempt returns or raises")

    def _save(self, path: str, to: Path) -> None:
        partial = to.with_name(f"{to.name}.partial")
        with self._stream(path) as response, partial.open("wb") as file:
            for chunk in response.iter_bytes():
                file.write(chunk)
        partial.replace(to)

    def _stream(self, path: str, **options: Any) -> _Streamed:
        return _Streamed(self, path, options)

    def _check(self, response: httpx.Response) -> None:
        if response.status_code < 400:
            return
        try:
            problem = response.json()
        except ValueError:
            problem = {}
        raise ApiProblem(
            str(response.request.url),
            response.status_code,
            problem if isinstance(problem, dict) else {},
        )

    def _unreachable(self, error: Exception) -> ModeratorError:
        reason = str(error) or type(error).__name__
        return ModeratorError(API_UNREACHABLE, url=self._url, reason=reason)


class _Streamed:
    """An answer that is read as it comes."""

    def __init__(self, client: ModeratorClient, path: str, options: Json) -> None:
        self._client = client
        self._call = client._http.stream("GET", path, **options)

    def __enter__(self) -> httpx.Response:
        try:
            response = self._call.__enter__()
        except httpx.TransportError as error:
            raise self._client._unreachable(error) from None
        if response.status_code >= 400:
            response.read()
            self._call.__exit__(None, None, None)
            self._client._check(response)
        return response

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._call.__exit__(kind, error, trace)


def _wait(response: httpx.Response) -> None:
    """As long as the server asks, within reason."""
    asked = response.headers.get("retry-after", "1")
    time.sleep(min(float(asked) if asked.isdigit() else 1.0, 10.0))
