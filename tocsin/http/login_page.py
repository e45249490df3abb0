"""The page on which people log in: HTML without scripts, with its style in it, for small and large screens.

Not here: what becomes of what is entered (`login`), the console.
"""

from __future__ import annotations

import base64
import hashlib
import html

_STYLE = """
:root { color-scheme: light dark; --back: #f4f5f7; --card: #fff; --text: #1b1f24; --quiet: #57606a; --line: #8c959f;
  --act: #0b5cad; --on-act: #fff; --bad: #b3261e }
@media (prefers-color-scheme: dark) { :root { --back: #111418; --card: #1b2027; --text: #e8eaed; --quiet: #a3adb8;
  --line: #6b7684; --act: #6cb2ff; --on-act: #06203c; --bad: #ff9b93 } }
* { box-sizing: border-box }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 1rem; background: var(--back);
  color: var(--text); font: 16px/1.5 system-ui, sans-serif }
main { width: 100%; max-width: 22rem; padding: 1.75rem; background: var(--card); border-radius: 12px;
  box-shadow: 0 1px 3px rgb(0 0 0 / 25%) }
h1 { display: flex; gap: .6rem; align-items: center; margin: 0 0 .5rem; font-size: 1.4rem }
p { margin: 0 0 1.25rem; color: var(--quiet) }
p.bad { color: var(--bad); font-weight: 600 }
label { display: block; margin-bottom: 1rem; font-weight: 600 }
input { display: block; width: 100%; margin-top: .25rem; padding: .6rem .75rem; border: 1px solid var(--line);
  border-radius: 8px; background: var(--back); color: inherit; font: inherit; font-weight: 400 }
button { width: 100%; padding: .7rem; border: 0; border-radius: 8px; background: var(--act); color: var(--on-act);
  font: inherit; font-weight: 600; cursor: pointer }
:focus-visible { outline: 3px solid var(--act); outline-offset: 2px }
code { font-size: .9em }
"""
LOGIN_POLICY = "; ".join(
    (
        "default-src 'none'",
        f"style-src 'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'",
        "img-src data:",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
_BELL = (
    '<svg width="28" height="28" viewBox="0 0 32 32" aria-hidden="true" fill="none" stroke-linecap="round">'
    '<rect width="32" height="32" rx="7" fill="#1d3b5c"/><path d="M16 6c-4.4 0-7 3.2-7 7.6 0 4-1.2 5.9-2.5 7.4h19c-1.3-'
    '1.5-2.5-3.4-2.5-7.4C23 9.2 20.4 6 16 6z" stroke="#fff" stroke-width="2.2" stroke-linejoin="round"/>'
    '<path d="M13.2 24.2a2.9 2.9 0 0 0 5.6 0" stroke="#ffb454" stroke-width="2.4"/></svg>'
)
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">{refresh}
<title>Log in – tocsin</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<main>
<h1>{bell} tocsin</h1>
{text}
{form}
</main>
</body>
</html>
"""
_FORM = """<form method="post" action="/login">
<input type="hidden" name="next" value="{next}">
<label>Name <input name="name" autocomplete="username" autocapitalize="none" spellcheck="false" required maxlength="64"
 value="{name}"{focus_name}></label>
<label>Password <input name="password" type="password" autocomplete="current-password" required
 maxlength="1024"{focus_password}></label>
<button>Log in</button>
</form>"""
_NO_USERS = (
    "Nobody can log in here, since only programs are known: add yourself to <code>http.users</code>, and restart."
)


def login_page(target: str, problem: str, name: str, *, refresh_to: str, has_users: bool) -> str:
    """HTML. `target`: where to go afterwards; `problem`: why it did not work; `refresh_to`: what to ask for at once."""
    text = f'<p class="bad" role="alert">{html.escape(problem)}</p>' if problem else "<p>Log in to go on.</p>"
    form = _FORM.format(
        next=html.escape(target),
        name=html.escape(name),
        focus_name="" if name else " autofocus",
        focus_password=" autofocus" if name else "",
    )
    if not has_users:
        text, form = f"<p>{_NO_USERS}</p>", ""
    refresh = f'\n<meta http-equiv="refresh" content="0; url={html.escape(refresh_to)}">' if refresh_to else ""
    return _PAGE.format(refresh=refresh, style=_STYLE, bell=_BELL, text=text, form=form)
