"""A program whose rows depend on the order of events, that makes, changes and deletes rows, and looks at other rows."""

import hashlib

from indexer.programs import ZERO, Program, Table, address, bytes32, key, uint64, uint256


class Holding(Table, name="held"):
    """What an account has, modulo 2^256; a row only where that is not nothing."""

    holder: address = key()
    token: address = key()
    amount: uint256 = 0


class Trail(Table):
    """All moves of a token as one hash."""

    token: address = key()
    digest: bytes32
    moves: uint64 = 0
    last_block: uint64 | None


program = Program(tables=[Holding, Trail])


def add(db, holder, token, amount):
    if holder == ZERO:
        return
    row = db.get_or_new(Holding, holder=holder, token=token)
    row.amount = (row.amount + amount) % 2**256
    if row.amount == 0:
        db.delete(row)


@program.on("coins.Transfer", "nft.Transfer")
def moved(event, db):
    amount = event.args.value if event.name == "coins.Transfer" else 1
    add(db, event.args.from_, event.address, -amount)
    add(db, event.args.to, event.address, amount)


@program.on("coins.Transfer", "nft.Transfer")
def trailed(event, db):
    trail = db.get_or_new(Trail, token=event.address)
    said = b"%d %d " % (event.block_number, event.log_index) + event.args.from_ + event.args.to
    trail.digest = hashlib.sha256(trail.digest + said).digest()
    trail.moves += 1
    trail.last_block = event.block_number
