"""What a log means: from an ABI to events, columns and compiled decoders. Pure.

* ``forms``, ``human``: the forms in which ABIs come; human-readable lines.
* ``model``, ``types``, ``topics``: an ABI, its types, values as topics, addresses with checksums.
* ``columns``, ``names``: how an argument is kept, and what Postgres calls it.
* ``decoder``, ``codegen``: decoders that are generated from an ABI, for one log at a time.
* ``batch``: many logs of one event at once, and logs that a declaration with other indexed arguments explains.
* ``token_standards``: which events are transfers, and of which standard.
"""
