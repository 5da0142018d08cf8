"""JSON-RPC endpoints: one question there and back, what is learned about an endpoint, and which one is asked.

An endpoint asks once and classifies what went wrong; the requester retries within bounds and fails over; the endpoint
pool chooses. What an endpoint refuses (ranges, lists, batches, methods, rates) is remembered with it.

* ``requester``: a question retried, failed over and learned from. ``endpoint_pool``: which endpoint is asked next.
* ``endpoint``, ``answers``: one endpoint; whose its answers are, and which questions it is asked again.
* ``exchange``, ``transport``, ``ipc``, ``config``: bytes there and back, by HTTP and by a node's unix socket, until
  they are wanted no more; settings.
* ``window``: how many requests to one endpoint pay, by what comes back a second.
* ``rate_control``, ``health``: which requests may be under way, how fast, how many calls a batch takes; whether the
  endpoint is worth asking, and what an operator is told of it.
* ``credits``, ``credit_prices``: what is spent at an endpoint and what its provider charges; ``no_endpoint``: what is
  told where nobody answers.
* ``error_table``, ``failures``: the wordings of nodes, and the error that each means; ``refusals``, ``list_limits``:
  what a refusal means whose text does not say; how long the lists of a question may be.
* ``hedging``: questions that the head waits for, asked again elsewhere where one request is not answered.
* ``pushed_heads``: new heads that a node pushes, which have the follower look sooner.
"""
