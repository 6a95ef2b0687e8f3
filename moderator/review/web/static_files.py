"""Scripts, styles and texts from the package, never older in the browser than on disk."""

from __future__ import annotations

from pathlib import Path

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope


def static_folder() -> Path:
    return Path(__file__).parent / "static"


class StaticModules(StaticFiles):
    """Modules import each other by plain names, so a browser asks each time whether one changed;
    the answer is mostly 304, and a new version is never mixed with an old one."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        return response
