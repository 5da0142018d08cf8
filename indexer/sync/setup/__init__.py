"""The manifest made ready to work.

* ``declaration``: the manifest as the store wants it. ``network``: one chain with its nodes.
* ``deployment_block``: ``start_block = "auto"``. ``online_check``: ``gapless check --online``.
* ``abi_lookup``, ``proxies``: ABIs of verified contracts; the contracts whose code speaks at an address.
"""
