"""The console: page shells rendered here, everything in them fetched from the API.

The pages hold no inline script or style, so that the strict content security policy holds,
and load nothing from elsewhere.
"""

from __future__ import annotations

from fastapi import FastAPI

from moderator.review.web.pages import error_page, router
from moderator.review.web.static_files import StaticModules, static_folder

__all__ = ["install"]


def install(app: FastAPI) -> None:
    """Add the pages, their static files, and the page that shows errors to people."""
    app.mount("/static", StaticModules(directory=static_folder()), name="static")
    app.include_router(router, include_in_schema=False)
    app.state.error_page = error_page
