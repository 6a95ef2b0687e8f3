"""The console's pages. Each is a shell: who is there, in which language, and which script runs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Annotated
from urllib.parse import quote, urlsplit

from fastapi import APIRouter, Query, Request
from jinja2 import Environment, FileSystemLoader, select_autoescape
from starlette.responses import HTMLResponse, RedirectResponse, Response

from moderator.errors import NOT_ALLOWED, ModeratorError
from moderator.review.api.problems import Problem, language
from moderator.review.api.security import authenticate, house_of
from moderator.review.permissions import Permission, Principal
from moderator.review.web.texts import text

router = APIRouter()


@dataclass(frozen=True, slots=True)
class Section:
    """An entry of the navigation, shown to whoever has `permission`."""

    name: str
    path: str
    permission: Permission


SECTIONS = (
    Section("queue", "/queue", Permission.VIOLATIONS_DECIDE),
    Section("rooms", "/rooms", Permission.ROOMS_READ),
    Section("check", "/check", Permission.CHECK),
    Section("dashboards", "/dashboards", Permission.DASHBOARDS_READ),
    Section("audit", "/audit", Permission.AUDIT_READ),
    Section("users", "/users", Permission.USERS_MANAGE),
)

THEMES = ("light", "dark")


def sections_of(who: Principal) -> list[Section]:
    """The navigation of `who`. Whoever only reads the queue has it too, after what is theirs."""
    found = [section for section in SECTIONS if who.may(section.permission)]
    if who.may(Permission.VIOLATIONS_READ) and SECTIONS[0] not in found:
        found.append(SECTIONS[0])
    return found


def home_of(who: Principal) -> str:
    """Where `who` begins: deciders at the queue, streamers at the pre-check."""
    sections = sections_of(who)
    return sections[0].path if sections else "/account"


# --- without a session ----------------------------------------------------------------


@router.get("/login")
def login(request: Request, next: Annotated[str, Query(max_length=500)] = "") -> Response:
    who = _session(request)
    if who is not None:
        return _to("/password" if who.must_change_password else inside(next) or home_of(who))
    return render(request, "login", bare=True, data={"next": inside(next)})


@router.get("/appeal/{token}")
def appeal(request: Request, token: str) -> Response:
    return render(request, "appeal", bare=True, data={"token": token})


def inside(path: str) -> str:
    """`path` where it is one of our own pages, else nothing: no redirect leaves the console."""
    parts = urlsplit(path)
    plain = not parts.scheme and not parts.netloc and "\\" not in path
    own = path.startswith("/") and not path.startswith("//")
    return path if plain and own and path.isprintable() else ""


# --- with one -------------------------------------------------------------------------


@router.get("/")
def home(request: Request) -> Response:
    who = _session(request)
    return _to("/login") if who is None else _to(home_of(who))


@router.get("/password")
def password(request: Request) -> Response:
    who = _session(request)
    if who is None:
        return _to("/login")
    return render(request, "password", who, bare=who.must_change_password)


@router.get("/queue")
def queue(request: Request) -> Response:
    return _page(request, "queue", Permission.VIOLATIONS_READ)


@router.get("/violations/{violation_id}")
def violation(request: Request, violation_id: str) -> Response:
    return _page(
        request, "case", Permission.VIOLATIONS_READ, section="queue", data={"id": violation_id}
    )


@router.get("/rooms")
def rooms(request: Request) -> Response:
    return _page(request, "rooms", Permission.ROOMS_READ)


@router.get("/rooms/{room_id}")
def room(request: Request, room_id: str) -> Response:
    return _page(request, "room", Permission.ROOMS_READ, section="rooms", data={"id": room_id})


@router.get("/check")
def check(request: Request) -> Response:
    return _page(request, "check", Permission.CHECK)


@router.get("/dashboards")
def dashboards(request: Request) -> Response:
    return _page(request, "dashboards", Permission.DASHBOARDS_READ)


@router.get("/audit")
def audit(request: Request) -> Response:
    return _page(request, "audit", Permission.AUDIT_READ)


@router.get("/users")
def users(request: Request) -> Response:
    return _page(request, "users", Permission.USERS_MANAGE)


@router.get("/account")
def account(request: Request) -> Response:
    return _page(request, "account", Permission.ACCOUNT)


def _page(
    request: Request,
    name: str,
    permission: Permission,
    *,
    section: str = "",
    data: dict[str, str] | None = None,
) -> Response:
    who = _session(request)
    if who is None:
        asked = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return _to(f"/login?next={quote(asked, safe='')}")
    if who.must_change_password:
        return _to("/password")
    if not who.may(permission):
        raise ModeratorError(NOT_ALLOWED, permission=str(permission))
    return render(request, name, who, section=section or name, data=data or {})


def _session(request: Request) -> Principal | None:
    """Whoever's browser asks; API tokens open no pages."""
    who = authenticate(request)
    return who if who is not None and who.kind == "session" else None


def _to(path: str) -> Response:
    return RedirectResponse(path, 303, {"Cache-Control": "no-store"})


# --- rendering ------------------------------------------------------------------------


@cache
def _environment() -> Environment:
    folder = Path(__file__).parent / "templates"
    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=select_autoescape(default=True, default_for_string=True),
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(
    request: Request,
    name: str,
    who: Principal | None = None,
    *,
    bare: bool = False,
    section: str = "",
    data: dict[str, str] | None = None,
    status: int = 200,
    problem: Problem | None = None,
) -> HTMLResponse:
    """The shell of page `name`; `data` reaches its script as data attributes of the body."""
    lang = language(request)
    theme = request.cookies.get("moderator_theme", "")
    html = (
        _environment()
        .get_template("problem.html" if problem else "page.html")
        .render(
            name=name,
            lang=lang,
            theme=theme if theme in THEMES else "",
            t=partial(text, lang=lang),
            who=who,
            permissions=sorted(who.permissions) if who else [],
            sections=sections_of(who) if who and not bare else [],
            section=section,
            bare=bare,
            data=data or {},
            problem=problem,
            claim_minutes=house_of(request).settings.claim_minutes,
        )
    )
    return HTMLResponse(html, status, {"Cache-Control": "no-store"})


def error_page(request: Request, problem: Problem) -> Response:
    """What a person sees instead of problem details in JSON."""
    return render(request, "problem", bare=True, status=problem.status, problem=problem)
