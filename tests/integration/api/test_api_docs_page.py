"""The interactive page: whole, and nothing of it from elsewhere."""

import re

from api.page.docs import asset


def test_all_that_it_needs_is_here(api):
    result = api.ask("/docs")
    assert result.headers["content-type"].startswith("text/html")
    needed = re.findall(r'(?:src|href)="([^"]+)"', result.text)
    assert {"/docs/swagger-ui-bundle.js", "/docs/start.js", "/docs/swagger-ui.css"} <= set(needed)
    for path in set(needed) - {"data:,"}:
        assert path.startswith("/")
        answer = api.ask(path)
        assert answer.status_code == 200, path
        if path.endswith(".js"):
            assert answer.headers["content-type"].startswith("text/javascript")
        if path.endswith(".css"):
            assert answer.headers["content-type"].startswith("text/css")


def test_no_script_but_its_own_may_run(api):
    result = api.ask("/docs")
    assert "script-src 'self';" in result.headers["content-security-policy"]
    assert "default-src 'none'" in result.headers["content-security-policy"]
    assert "unsafe" not in result.headers["content-security-policy"]
    assert re.search(r"<script[^>]*>[^<]", result.text) is None


def test_its_start_names_no_other_server():
    start = asset("start.js")
    assert start is not None
    assert b"http" not in start.body
    assert b"validatorUrl: null" in start.body


def test_files_are_kept_by_browsers_and_others_are_not_there(api):
    first = api.ask("/docs/swagger-ui-bundle.js", accept_encoding="gzip")
    assert first.headers["content-encoding"] == "gzip"
    assert api.ask("/docs/swagger-ui-bundle.js", if_none_match=first.headers["etag"]).status_code == 304
    for name in ("README.txt", "..%2f..%2fapp.py", "../app.py", "docs.py", ".env"):
        assert api.ask(f"/docs/{name}").status_code == 404
    api.refused("/docs?x=1", 400, "UNKNOWN_PARAMETER")
