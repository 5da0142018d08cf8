"""The status page: facts of one look at the database, a verdict on them, and one HTML document without any script.

* ``facts``, ``verdict``: what the status page tells, and what that means.
* ``render``, ``text``: how it looks, with the template ``status.html``.
* ``docs``: Swagger UI.
"""
