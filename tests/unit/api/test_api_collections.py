"""What collections are described by: the order of rows and its cursors, members, how many rows a query reads."""

import pytest

from api.sql import members
from api.sql.balances import BY_AMOUNT, BY_TOKEN
from api.sql.daily import BY_DAY
from api.sql.query_shape import BY_ITEM, BY_LOG, Key, RowOrder
from api.sql.series import BY_POINT
from api.sql.source import ALL, PAGE, Cut
from api.sql.statement import Binder
from api.values import BadValueError

ADDRESS = "0x" + "ab" * 20
BRANCH = "9f2c41d07be3"
AT_POINT = {"cursor_block": 12, "cursor_contract_address": b"\xab" * 20, "cursor_item": 3}

CURSORS = [
    (BY_LOG, "12-7", {"cursor_block": 12, "cursor_log": 7, "cursor_item": None, "cursor_branch": None}),
    (
        BY_ITEM,
        f"12-7-3.{BRANCH}",
        {"cursor_block": 12, "cursor_log": 7, "cursor_item": 3, "cursor_branch": bytes.fromhex(BRANCH)},
    ),
    (BY_POINT, f"12-{ADDRESS}-3", {**AT_POINT, "cursor_branch": None}),
    (BY_POINT, f"12-{ADDRESS}-3.{BRANCH}", {**AT_POINT, "cursor_branch": bytes.fromhex(BRANCH)}),
    (BY_TOKEN, f"{ADDRESS}-{2**256 - 1}", {"cursor_token": b"\xab" * 20, "cursor_token_id": 2**256 - 1}),
    (
        BY_AMOUNT,
        f"7--5-{ADDRESS}",
        {"cursor_token_id": 7, "cursor_amount": -5, "cursor_holder": b"\xab" * 20},
    ),
    (BY_DAY, "2024-02-29", {"cursor_day": "2024-02-29"}),
    (RowOrder(Key("address", "bytea")), ADDRESS, {"cursor_address": b"\xab" * 20}),
]

NO_CURSORS = [
    (BY_LOG, "12"),
    (BY_LOG, "12-7.zz"),
    (BY_POINT, f"12-{ADDRESS}"),
    (BY_POINT, f"{2**63}-{ADDRESS}-3"),
    (BY_POINT, f"12-{ADDRESS}-3.9f2c"),
    (BY_TOKEN, f"{ADDRESS}-01"),
    (BY_TOKEN, f"{ADDRESS}-1.{BRANCH}"),
    (BY_AMOUNT, f"7-5-{ADDRESS}0"),
    (BY_DAY, "2023-02-29"),
]


@pytest.mark.parametrize(("order", "text", "values"), CURSORS)
def test_a_cursor_is_read_into_the_values_that_statements_name(order, text, values):
    assert order.cursor.parse(text) == values
    bind = Binder()
    order.beyond(bind, forward=True)
    assert set(bind.names) <= set(values)


@pytest.mark.parametrize(("order", "text"), NO_CURSORS)
def test_what_is_no_cursor_is_refused(order, text):
    with pytest.raises(BadValueError):
        order.cursor.parse(text)


def test_an_order_reads_both_ways():
    assert BY_LOG.by(ascending=True) == "ORDER BY t.block_number ASC, t.log_index ASC"
    assert BY_LOG.by(ascending=False, alias="") == "ORDER BY block_number DESC, log_index DESC"
    there, back = (BY_LOG.beyond(Binder(), forward=forward) for forward in (True, False))
    assert there == "(t.block_number, t.log_index) > ($1::bigint, $2::bigint)"
    assert back == there.replace(">", "<")


def test_a_page_is_cut_by_a_bound_value():
    bind = Binder()
    text = PAGE.of("SELECT t.* FROM rows t", BY_LOG, bind, forward=True)
    assert bind.names == ["take"]
    # The constant is for the planner alone: the value is what stops the reading.
    assert text.count("LIMIT") == 2
    assert text.endswith("LIMIT $1::bigint")
    assert "LIMIT 1001" in text
    assert ALL.of("SELECT 1", BY_LOG, bind, forward=True).endswith(BY_LOG.by(ascending=True))
    assert Cut(most=5, ordered=False).of("SELECT 1", BY_LOG, bind, forward=True) == "SELECT 1 LIMIT 5"


MEMBERS = (
    members.plain("id", "t.id", {"type": "string"}),
    members.value("rare", "t.rare", {"type": "integer"}, usual=False),
    members.group("args", [members.value("a", "t.a", {}), members.value("b,c", "t.bc", {})]),
    members.group("sums", [members.value("a", "t.s", {})], fields=False),
)


def test_members_are_chosen():
    assert members.field_names(MEMBERS) == ["id", "rare", "args", "args.a", "sums"]
    assert [one.name for one in members.chosen(MEMBERS, ())] == ["id", "args", "sums"]
    assert [one.name for one in members.chosen(MEMBERS, {"rare"})] == ["rare"]
    (args,) = members.chosen(MEMBERS, {"args.a"})
    assert [part.name for part in args.parts or ()] == ["a"]


def test_a_csv_has_a_column_for_each_part():
    assert members.csv_columns(members.chosen(MEMBERS, ())) == {
        "id": "t.id", "args.a": "t.a", "args.b,c": "t.bc", "sums.a": "t.s",
    }  # fmt: skip


def test_what_may_be_null_is_null_in_json():
    assert members.value("n", "t.n", {}, null=True).json == "coalesce(t.n::text, 'null')"
    assert members.text("n", "t.n", {}).json == "coalesce(to_json(t.n)::text, 'null')"
    assert members.hexadecimal("n", "t.n", {}).json == """'"' || '0x' || encode(t.n, 'hex') || '"'"""
