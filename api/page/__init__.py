"""The status page: facts of one look at the database, a verdict on them, and one HTML document without any script.

* ``facts``, ``verdict``: what the status page tells, and what that means.
* ``render``, ``running``, ``parts``, ``bar``, ``amounts``, ``html``: how it looks.
* ``docs``: Swagger UI.
"""
