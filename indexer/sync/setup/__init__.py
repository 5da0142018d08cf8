"""The manifest made ready to work.

* ``declaration``: the manifest as the store wants it. ``deployment_block``: ``start_block = "auto"``.
* ``network``: one chain with its nodes; ``gapless check --online``.
* ``abi_lookup``, ``proxies``: ABIs of verified contracts; the contracts whose code speaks at an address.
"""
